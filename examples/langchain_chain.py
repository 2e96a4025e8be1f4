"""A LangChain chain, a stream and a fallback, each with its own tags; a fake provider on loopback stands in for OpenAI.

Run it: python examples/langchain_chain.py
"""

from __future__ import annotations

from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI

from farthing.testing import capture
from farthing.testing.provider import FakeProvider, Fault
from farthing_langchain import FarthingHandler

with FakeProvider() as provider, capture() as captured:
    large = ChatOpenAI(model="gpt-4o", base_url=provider.openai_url, api_key="none", stream_usage=True, max_retries=0)
    small = ChatOpenAI(model="gpt-4o-mini", base_url=provider.openai_url, api_key="none")
    handler = FarthingHandler(feature="chatbot", route="api/chat")  # one for the whole application
    prompt = ChatPromptTemplate.from_template("Answer briefly: {question}")

    chain = prompt | large | StrOutputParser()
    chain.invoke({"question": "Why?"}, {"callbacks": [handler], "metadata": {"tenant": "acme"}})
    for _ in chain.stream({"question": "How?"}, {"callbacks": [handler], "metadata": {"feature": "live-answers"}}):
        pass

    provider.script(Fault(status=503), model="gpt-4o")
    safe = prompt | large.with_fallbacks([small])
    safe.invoke({"question": "When?"}, {"callbacks": [handler], "metadata": {"tenant": "globex"}})

    for call in captured.calls:
        tags = " ".join(f"{name}={value}" for name, value in call.attribution.items())
        print(
            f"{call.request_model:12} attempt {call.attempt}  {call.cost.amount_usd} USD  {call.cost.status:11} {tags}"
        )
    billed = sum(call.cost.amount_usd for call in captured.calls if call.cost.amount_usd is not None)
    print(f"ledger {billed} USD, provider's invoice {provider.invoice.total_usd} USD")
