"""Names of providers: every spelling in use, the one of the GenAI conventions, and the one of the price catalogue.

Sources: `gen_ai.provider.name` of the OpenTelemetry GenAI conventions; LiteLLM's `custom_llm_provider`; LangChain's
`ls_provider`; CrewAI's native providers; genai-prices' provider ids.
"""

from __future__ import annotations

from typing import Final

__all__ = ["canonical_names", "canonical_provider", "catalogue_id", "known_provider"]

_SPELLINGS: Final[dict[str, tuple[str | None, str]]] = {
    # canonical name: the catalogue's id, and further spellings (lower case, with `_` for `-` and space)
    "openai": ("openai", "openai_chat openai_text text_completion_openai chatopenai"),
    "anthropic": ("anthropic", "anthropic_chat anthropic_text chatanthropic claude"),
    "aws.bedrock": (
        "aws",
        (
            "bedrock aws aws_bedrock amazon amazon_bedrock bedrock_converse bedrock_mantle bedrock_runtime chatbedrock "
            "chatbedrockconverse"
        ),
    ),
    "azure.ai.openai": (
        "azure",
        "azure azure_openai azure_openai_chat azure_ai_openai az.ai.openai azure_text azurechatopenai",
    ),
    "azure.ai.inference": (
        "azure",
        "azure_ai azure_inference azure_ai_inference az.ai.inference azure_ai_foundry azure_foundry",
    ),
    "gcp.gemini": (
        "google",
        "gemini gemini_api google google_ai google_ai_studio google_genai google_gla googleai chatgooglegenerativeai",
    ),
    "gcp.gen_ai": ("google", "gcp_genai"),
    "gcp.vertex_ai": (
        "google",
        (
            "vertex vertexai vertex_ai vertex_ai_beta gcp google_cloud google_vertex google_vertexai google_vertex_ai "
            "google_anthropic_vertex chatvertexai"
        ),
    ),
    "mistral_ai": ("mistral", "mistral mistralai codestral text_completion_codestral chatmistralai"),
    "cohere": ("cohere", "cohere_chat chatcohere"),
    "deepseek": ("deepseek", "deepseek_chat chatdeepseek"),
    "groq": ("groq", "groqcloud chatgroq"),
    "perplexity": ("perplexity", "perplexity_ai pplx chatperplexity"),
    "x_ai": ("x-ai", "xai x.ai grok chatxai"),
    "ibm.watsonx.ai": (None, "watsonx watsonx_text ibm_watsonx ibm"),
    "openrouter": ("openrouter", "open_router chatopenrouter"),
    "together_ai": ("together", "together togetherai chattogether"),
    "fireworks_ai": ("fireworks", "fireworks chatfireworks"),
    "moonshot_ai": ("moonshotai", "moonshot moonshotai kimi"),
    "z_ai": ("zai", "zai z.ai"),
    "zhipuai": ("zhipuai", "zhipu zhipu_ai bigmodel"),
    "minimax": ("minimax", ""),
    "cerebras": ("cerebras", "chatcerebras"),
    "novita": ("novita", "novita_ai"),
    "voyage_ai": ("voyageai", "voyage voyageai"),
    "github_copilot": ("github-copilot", "copilot"),
    "databricks": ("databricks", "chatdatabricks"),
    "cloudflare": ("cloudflare", "cloudflare_workers_ai workers_ai"),
    "ovhcloud": ("ovhcloud", "ovh"),
    "meta": ("meta", "meta_llama llama_api"),
    "baseten": ("baseten", ""),
    "cursor": ("cursor", ""),
    "elevenlabs": ("elevenlabs", ""),
    "avian": ("avian", ""),
    "arcee": ("arcee", "arcee_ai"),
    "modal": ("modal", ""),
}

_CANONICAL: Final[dict[str, str]] = {
    spelling: canonical for canonical, (_, listed) in _SPELLINGS.items() for spelling in (canonical, *listed.split())
}

_CATALOGUE: Final[dict[str, str]] = {
    canonical: identifier for canonical, (identifier, _) in _SPELLINGS.items() if identifier is not None
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
    return known_provider(name) or name.strip().lower()


def known_provider(name: str) -> str | None:
    """Give the canonical name when the spelling is one of a known provider, else None."""
    plain = _plain(name)
    found = _CANONICAL.get(plain)
    if found is None and plain.startswith("vertex_ai_"):
        return "gcp.vertex_ai"  # LiteLLM has one name for each publisher on Vertex AI: `vertex_ai-llama_models`
    return found


def catalogue_id(canonical: str) -> str | None:
    """Give the price catalogue's id of a canonical provider; None when the catalogue has no such provider."""
    return _CATALOGUE.get(canonical)


def canonical_names(identifier: str) -> tuple[str, ...]:
    """Give the canonical providers that one id of the price catalogue stands for; the id itself when none is known."""
    names = tuple(canonical for canonical, known in _CATALOGUE.items() if known == identifier)
    return names or (identifier,)
