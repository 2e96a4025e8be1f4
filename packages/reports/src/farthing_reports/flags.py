"""What each flag of a cost means, in a sentence for whoever has to defend the figure."""

from __future__ import annotations

from typing import Final

__all__ = ["FLAG_SENTENCES"]

FLAG_SENTENCES: Final = {
    "account-resource": "The name is a resource of your own account, which hides the model; add a price override.",
    "bedrock-bare-id": "The Bedrock id names no geography; it is taken as regional, which is dearer than global.",
    "before-first-price": "The moment lies before the first known price of this model.",
    "byok-upstream-included": "Own keys were used: the figure reported includes what the upstream provider charges.",
    "cache-1h-billed-as-5m": "No rate for cache writes kept 1 hour is known; they are billed at the cheaper other one.",
    "cache-billed-as-input": "No rate for cached tokens is known; they are billed as plain input.",
    "cache-not-reported": "The framework does not pass cached tokens on; all input is billed as uncached.",
    "cache-split-assumed": "How much of the cached input is audio or image was assumed; it is the dearer reading.",
    "cache-ttl-assumed": "The lifetime of some cache writes is unknown; the short, cheaper one is assumed.",
    "cache-write-beside-input": "Cache writes were reported beside the input; they were added to it.",
    "clock-before-2020": "The moment lies before 2020, so the clock was wrong; no price of that time is known.",
    "code-executions-not-priced": "Code executions are not in the amount: their price is not known.",
    "context-not-priced": "No price is known for this tier, region or deployment; standard would be a guess.",
    "context-not-recorded": "The ledger does not hold the region or deployment that left it without a price.",
    "fallback-provider-price": "This provider's own price is not known; the model maker's is taken.",
    "fault": "Pricing itself failed; farthing.health() counts it.",
    "file-searches-not-priced": "No rate for file searches is known, so the total is not known either.",
    "framework-cache-hit": "The framework answered from its own cache; nothing was bought from the provider.",
    "loose-match": "The name says more than the model that it matched; check that it is the same one.",
    "modality-billed-as-text": "No own rate for audio, image or video is known; they are billed as text.",
    "moving-alias": "The provider points this name at newer models; it is priced as the model it meant at that moment.",
    "naive-time": "The call's time had no timezone; it is taken as UTC.",
    "no-model": "No model is named.",
    "no-model-name": "No model is named.",
    "no-price-listed": "The model is known, but no price of it.",
    "output-not-priced": "The model has no rate for output, and output was reported.",
    "override-without-list-price": "An override changes a list price that is not known; give it absolute rates.",
    "provider-inferred": "The provider was inferred from the model's name.",
    "reasoning-beside-output": "Reasoning was reported beside the output; it was added to it.",
    "rerank-searches-not-priced": "No rate for rerank searches is known, so the total is not known either.",
    "social-searches-not-priced": "No rate for social searches is known, so the total is not known either.",
    "stale-price-data": "The price data is older than prices.max_age_days; see: farthing prices status.",
    "tier-price-backdated": "The tier's rate is taken as valid before the day it was verified; standard was the same.",
    "unknown-model": "The price book does not know this model; check its spelling, or add a price override.",
    "unknown-provider": "The price book does not know this provider; check its spelling, or add a price override.",
    "unknown-tier": "This is no tier; there are standard, batch, flex, priority, fast.",
    "usage-impossible": "The usage that was reported cannot be true, such as parts above their whole; it is not priced.",
    "usage-input-missing": "Output was reported without any input, which cannot be; the usage is not priced.",
    "usage-missing": "No usage was reported.",
    "usage-not-priced": "The usage is measured in a unit for which this model has no rate.",
    "usage-overlap": "Parts of the usage contradict each other, so that one would be negative; it is not priced.",
    "usage-shape-unknown": "The format of the usage is not known; it was read as OpenAI's.",
    "usage-zero": "The provider reported a usage of zero.",
    "web-searches-not-priced": "No rate for web searches is known, so the total is not known either.",
}
