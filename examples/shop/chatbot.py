"""The shop's chatbot, on LangChain: a chain, a stream, a cached answer and a retry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from langchain_core.caches import InMemoryCache
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

import farthing
from farthing_langchain import FarthingHandler

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable

HANDLER = FarthingHandler(feature="chatbot", route="api/chat", task_type="conversation", team="support")
PROMPT = ChatPromptTemplate.from_template("Answer a customer of a bicycle shop: {question}")


def build(base_url: str) -> Runnable[dict[str, str], str]:
    """Build the chain; stream_usage asks the provider for the usage that a stream otherwise lacks."""
    model = ChatOpenAI(model="gpt-4o", base_url=base_url, max_retries=0, stream_usage=True, cache=InMemoryCache())
    return (PROMPT | model.with_retry(stop_after_attempt=2) | StrOutputParser()).with_config(run_name="answer-customer")


def answer(chain: Runnable[dict[str, str], str], question: str, *, tenant: str) -> str:
    """Answer one customer."""
    with farthing.attribute(tenant=tenant, session_id=f"session-{tenant}"):
        return chain.invoke({"question": question}, config={"callbacks": [HANDLER]})


def stream(chain: Runnable[dict[str, str], str], question: str, *, tenant: str) -> str:
    """Answer one customer, word by word."""
    with farthing.attribute(tenant=tenant, route="api/chat/stream"):
        return "".join(chain.stream({"question": question}, config={"callbacks": [HANDLER]}))
