"""The shop's market research, on CrewAI: two agents, two tasks, one listener that registers itself."""

from __future__ import annotations

from crewai import LLM, Agent, Crew, Task

import farthing
from farthing_crewai import FarthingListener


def run(*, base_url: str) -> str:
    """Let the crew research and summarise."""
    FarthingListener(feature="research", route="jobs/research", task_type="extraction", team="product")
    llm = LLM(model="openai/gpt-4.1-mini", base_url=base_url, api_key="unused")
    researcher = Agent(role="Researcher", goal="Find facts", backstory="Curious.", llm=llm)
    writer = Agent(role="Writer", goal="Write them down", backstory="Brief.", llm=llm)
    tasks = [
        Task(name="collect", description="Collect prices of tyres.", expected_output="A list.", agent=researcher),
        Task(name="summarise", description="Summarise them.", expected_output="Two lines.", agent=writer),
    ]
    with farthing.attribute(tenant="internal"):
        return str(Crew(name="market-research", agents=[researcher, writer], tasks=tasks).kickoff())
