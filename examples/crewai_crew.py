"""A CrewAI crew with a tool, attributed by one line; a fake provider on loopback stands in for OpenAI.

Run it: python examples/crewai_crew.py
"""

from __future__ import annotations

import os

os.environ |= {"CREWAI_DISABLE_TELEMETRY": "true", "CREWAI_TRACING_ENABLED": "false", "OPENAI_API_KEY": "none"}

from crewai import LLM, Agent, Crew, Task
from crewai.tools import tool

import farthing
from farthing.testing import capture
from farthing.testing.provider import FakeProvider, Reply
from farthing_crewai import FarthingListener


@tool("prices")
def prices(product: str) -> str:
    """Look up what a product costs."""
    return f"{product}: 99 EUR"


with FakeProvider(usage=Reply(tool_rounds=1)) as provider, capture() as captured:
    FarthingListener(feature="research", team="product")  # registers itself, once for the whole application

    llm = LLM(model="gpt-4o-mini", base_url=provider.openai_url)
    analyst = Agent(role="Analyst", goal="Find prices", backstory="Thorough.", llm=llm, tools=[prices])
    collect = Task(name="collect", description="What do tyres cost?", expected_output="A line.", agent=analyst)
    with farthing.attribute(route="jobs/research", tenant="acme"):
        Crew(name="market-research", agents=[analyst], tasks=[collect]).kickoff()

    for call in captured.calls:
        tree = " > ".join(f"{scope.kind} {scope.name}" for scope in call.scopes)
        print(f"{call.cost.amount_usd} USD  {tree}  {dict(call.attribution.items())}")
    print("provider's invoice:", provider.invoice.total_usd, "USD")
