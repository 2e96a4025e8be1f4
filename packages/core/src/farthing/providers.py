"""Names of providers: every spelling in use, the one of the GenAI conventions, and the one of the price catalogue.

Sources: `gen_ai.provider.name` of the OpenTelemetry GenAI conventions; LiteLLM's `custom_llm_provider`; LangChain's
`ls_provider`; CrewAI's native providers; genai-prices' provider ids.
"""

from __future__ import annotations

from typing import Final

__all__ = ["canonical_provider", "catalogue_id", "known_provider"]

_SPELLINGS: Final[dict[str, str]] = {
    # canonical name: catalogue id, then further spellings (lower case, `-` and space written as `_`)
    "openai": "openai openai openai_chat text_completion_openai openai_text chatopenai openai_like_openai",
    "anthropic": "anthropic anthropic anthropic_chat anthropic_text chatanthropic claude",
    "aws.bedrock": (
        "aws bedrock aws aws_bedrock amazon_bedrock bedrock_converse bedrock_mantle amazon chatbedrock chatbedrockconverse "
        "bedrock_runtime sagemaker_bedrock"
    ),
    "azure.ai.openai": "azure azure azure_openai az.ai.openai azure_text azure_ai_openai azurechatopenai azure_openai_chat",
    "azure.ai.inference": "azure azure_ai azure_inference azure_ai_inference az.ai.inference azure_ai_foundry azure_foundry",
    "gcp.gemini": "google gemini google google_genai google_gla google_ai_studio gemini_api google_ai googleai chatgooglegenerativeai",
    "gcp.gen_ai": "google gcp_genai",
    "gcp.vertex_ai": (
        "google vertex_ai vertex vertexai google_vertexai google_vertex google_vertex_ai vertex_ai_beta google_cloud gcp "
        "vertex_ai_anthropic_models vertex_ai_language_models vertex_ai_mistral_models vertex_ai_llama_models chatvertexai "
        "google_anthropic_vertex"
    ),
    "mistral_ai": "mistral mistral mistralai codestral text_completion_codestral chatmistralai",
    "cohere": "cohere cohere cohere_chat chatcohere",
    "deepseek": "deepseek deepseek deepseek_chat chatdeepseek",
    "groq": "groq groq groqcloud chatgroq",
    "perplexity": "perplexity perplexity perplexity_ai pplx chatperplexity",
    "x_ai": "x-ai xai x_ai x.ai grok chatxai",
    "ibm.watsonx.ai": "- watsonx watsonx_text ibm_watsonx ibm",
    "openrouter": "openrouter openrouter open_router chatopenrouter",
    "together_ai": "together together together_ai togetherai chattogether",
    "fireworks_ai": "fireworks fireworks fireworks_ai chatfireworks",
    "moonshot_ai": "moonshotai moonshot moonshotai moonshot_ai kimi",
    "z_ai": "zai zai z_ai z.ai",
    "zhipuai": "zhipuai zhipu zhipu_ai bigmodel",
    "minimax": "minimax minimax",
    "cerebras": "cerebras cerebras chatcerebras",
    "novita": "novita novita novita_ai",
    "voyage_ai": "voyageai voyage voyageai voyage_ai",
    "github_copilot": "github-copilot github_copilot copilot",
    "databricks": "databricks databricks chatdatabricks",
    "cloudflare": "cloudflare cloudflare cloudflare_workers_ai workers_ai",
    "ovhcloud": "ovhcloud ovhcloud ovh",
    "meta": "meta meta meta_llama llama_api",
    "baseten": "baseten baseten",
    "cursor": "cursor cursor",
    "elevenlabs": "elevenlabs elevenlabs",
    "avian": "avian avian",
    "arcee": "arcee arcee arcee_ai",
    "modal": "modal modal",
}

_CANONICAL: Final[dict[str, str]] = {
    spelling: canonical
    for canonical, listed in _SPELLINGS.items()
    for spelling in (canonical.replace("-", "_"), *listed.split()[1:])
}

_CATALOGUE: Final[dict[str, str]] = {
    canonical: listed.split()[0] for canonical, listed in _SPELLINGS.items() if not listed.startswith("- ")
}


def _plain(name: str) -> str:
    return name.strip().lower().replace("-", "_").replace(" ", "_")


def canonical_provider(name: str | None) -> str | None:
    """Give the GenAI conventions' name of a provider in any spelling; an unknown one comes back in lower case.

    Args:
        name: A provider as some library spells it, e.g. `bedrock`, `amazon_bedrock` or `aws`.

    Returns:
        The conventions' name, e.g. `aws.bedrock`; None for None and for an empty name.
    """
    if name is None or not name.strip():
        return None
    return _CANONICAL.get(_plain(name), name.strip().lower())


def known_provider(name: str) -> str | None:
    """Give the canonical name when the spelling is one of a known provider, else None."""
    return _CANONICAL.get(_plain(name))


def catalogue_id(canonical: str) -> str | None:
    """Give the price catalogue's id of a canonical provider; None when the catalogue has no such provider."""
    return _CATALOGUE.get(canonical)
