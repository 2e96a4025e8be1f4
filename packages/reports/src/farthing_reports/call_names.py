"""The methods that call a model, library by library, as `fnmatch` patterns of dotted names."""

from __future__ import annotations

from typing import Final

__all__ = ["LIBRARIES", "METHODS", "UNMISTAKABLE"]

LIBRARIES: Final = {
    "openai": "openai",
    "anthropic": "anthropic",
    "litellm": "litellm",
    "crewai": "crewai",
    "langgraph": "langchain",
    "boto3": "bedrock",
    "aioboto3": "bedrock",
    "google.genai": "google",
    "google.generativeai": "google",
    "vertexai": "google",
}
METHODS: Final = {
    "openai": (
        "*.chat.completions.create",
        "*.chat.completions.parse",
        "*.chat.completions.stream",
        "*.completions.create",
        "*.responses.create",
        "*.responses.parse",
        "*.responses.stream",
        "*.embeddings.create",
        "*.images.generate",
        "*.images.edit",
        "*.audio.*.create",
        "*.moderations.create",
        "*.batches.create",
    ),
    "anthropic": ("*.messages.create", "*.messages.stream", "*.messages.parse", "*.messages.batches.create"),
    "litellm": tuple(
        f"*.{a}{name}"
        for a in ("", "a")
        for name in (
            "completion",
            "text_completion",
            "embedding",
            "responses",
            "image_generation",
            "transcription",
            "speech",
            "rerank",
            "moderation",
            "batch_completion",
        )
    ),
    "langchain": (
        *(
            f"*.{a}{name}"
            for a in ("", "a")
            for name in ("invoke", "stream", "batch", "batch_as_completed", "generate", "predict", "transform")
        ),
        "*.astream_events",
        "*.astream_log",
    ),
    "crewai": tuple(
        f"*.{name}"
        for name in (
            "kickoff",
            "kickoff_async",
            "kickoff_for_each",
            "kickoff_for_each_async",
            "akickoff",
            "akickoff_for_each",
            "call",
            "acall",
        )
    ),
    "bedrock": (
        "*.converse",
        "*.converse_stream",
        "*.invoke_model",
        "*.invoke_model_with_response_stream",
        "*.invoke_agent",
    ),
    "google": (
        "*.models.generate_content",
        "*.models.generate_content_stream",
        "*.models.embed_content",
        "*.models.generate_images",
        "*.generate_content",
        "*.generate_content_async",
        "*.embed_content",
    ),
}
UNMISTAKABLE: Final = {
    "openai": ("*.chat.completions.create", "*.chat.completions.parse", "*.responses.create"),
    "bedrock": ("*.converse", "*.converse_stream", "*.invoke_model", "*.invoke_model_with_response_stream"),
    "google": ("*.models.generate_content", "*.models.generate_content_stream"),
    "anthropic": ("*.messages.create", "*.messages.stream"),
    "crewai": ("*.kickoff", "*.kickoff_async", "*.kickoff_for_each", "*.akickoff"),
}
"""Found without knowing where the client comes from."""
