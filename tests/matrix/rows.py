"""All rows, in the order of the page; it takes every framework to import them."""

from __future__ import annotations

from typing import Final

from matrix import drive_crewai, drive_graphs, drive_langchain, drive_litellm, drive_proxy, drive_together

__all__ = ["ROWS"]

ROWS: Final = (
    drive_litellm.SDK,
    drive_litellm.ROUTER,
    drive_proxy.PROXY,
    drive_langchain.OPENAI,
    drive_langchain.ANTHROPIC,
    drive_langchain.BEDROCK,
    drive_langchain.GEMINI,
    drive_langchain.LITELLM,
    drive_graphs.GRAPH,
    drive_graphs.AGENT,
    drive_crewai.OPENAI,
    drive_crewai.ANTHROPIC,
    drive_crewai.GEMINI,
    drive_crewai.BEDROCK,
    drive_crewai.LITELLM,
    drive_together.TOGETHER,
)
