"""The shop's e-mail generator, on LiteLLM: two providers, tags in the call's own metadata, and a refused request."""

from __future__ import annotations

import asyncio

import litellm

from farthing_litellm import FarthingLogger


def install() -> None:
    """Register the callback, once for the process."""
    litellm.callbacks = [FarthingLogger(feature="email-generator", route="jobs/newsletter", team="growth")]
    litellm.suppress_debug_info = True


async def write_all(tenants: list[str], *, openai_url: str, anthropic_url: str) -> None:
    """Write a newsletter for each tenant at once, and a subject line for each."""
    await asyncio.gather(
        *(
            litellm.acompletion(
                model="anthropic/claude-sonnet-4-5",
                api_base=anthropic_url,
                messages=[{"role": "user", "content": "Write a newsletter about winter tyres."}],
                metadata={"tags": {"task_type": "generation", "tenant": tenant}},
            )
            for tenant in tenants
        ),
        *(
            litellm.acompletion(
                model="openai/gpt-4o-mini",
                api_base=openai_url,
                messages=[{"role": "user", "content": "Write a subject line."}],
                metadata={"tags": ["task_type:classification", f"tenant:{tenant}"]},
            )
            for tenant in tenants
        ),
    )


def write_refused(*, openai_url: str) -> str:
    """Send a request that the provider refuses: it costs nothing, and the ledger says so."""
    try:
        litellm.completion(
            model="openai/gpt-4o-mini",
            api_base=openai_url,
            max_retries=0,
            messages=[{"role": "user", "content": "Write to everybody."}],
            metadata={"tags": {"task_type": "generation", "tenant": "acme"}},
        )
    except litellm.BadRequestError as error:
        return type(error).__name__
    return "answered"
