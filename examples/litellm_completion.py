"""One line attributes every LiteLLM call: run it offline, against a provider that keeps its own invoice."""

from __future__ import annotations

import os

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # LiteLLM would fetch its price list; nothing here needs it

import litellm

import farthing
from farthing.testing import capture
from farthing.testing.provider import FakeProvider
from farthing_litellm import FarthingLogger

litellm.callbacks = [FarthingLogger(feature="email-generator", team="growth")]

with FakeProvider() as provider, capture() as ledger:
    place = {"api_base": provider.openai_url, "api_key": "none"}
    ask = [{"role": "user", "content": "Write a subject line about winter tyres."}]

    litellm.completion(model="openai/gpt-4o-mini", messages=ask, **place, metadata={"tags": ["tenant:acme"]})

    with farthing.attribute(feature="newsletter", tenant="globex"):
        stream = litellm.completion(
            model="openai/gpt-4o", messages=ask, stream=True, stream_options={"include_usage": True}, **place
        )
        list(stream)

    for call in ledger.calls:
        who = " ".join(f"{name}={value}" for name, value in call.attribution.items())
        print(f"{call.cost.amount_usd:.8f} USD  {call.request_model:<12} {who}")
    total = sum(call.cost.amount_usd or 0 for call in ledger.calls)
    print(f"{total:.8f} USD  in the ledger; the provider's invoice says {provider.invoice.total_usd:.8f} USD")
