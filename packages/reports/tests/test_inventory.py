"""`farthing inventory`: every call site of a codebase, and which of them nobody pays for."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from farthing_reports.cli import app
from farthing_reports.inventory import inventory

CODE = '''
import boto3
import litellm as ll
from anthropic import Anthropic
from crewai import Crew
from google import genai
from langchain_core.prompts import ChatPromptTemplate
from langchain_openai import ChatOpenAI
from litellm import acompletion
from openai import AsyncOpenAI, OpenAI
import farthing
from farthing import attribute
from farthing_langchain import FarthingHandler

client = OpenAI()
handler = FarthingHandler(feature="a")
chain = ChatPromptTemplate.from_template("x") | ChatOpenAI()


class Service:
    def __init__(self, claude: Anthropic) -> None:
        self.openai = AsyncOpenAI()
        self.claude = claude
        self.gemini = genai.Client()

    async def ask(self, claude: Anthropic):
        await self.openai.responses.create(model="x")
        claude.messages.create(model="x")
        self.gemini.models.generate_content(model="x")

    @attribute(feature="b")
    async def paid(self):
        await acompletion(model="x")


def plain(unknown, crew: Crew):
    client.chat.completions.create(model="x")
    with farthing.attribute(feature="c"):
        ll.completion(model="x")
        def later():
            ll.embedding(model="x")
    chain.invoke({}, config={"callbacks": [handler]})
    chain.stream({})
    bound = chain.with_config(callbacks=[handler])
    bound.invoke({})
    chain.batch([{}], unknown)
    ask = ll.completion
    ask(model="x")
    crew.kickoff()
    boto3.client("bedrock-runtime").converse(modelId="x")
    unknown.chat.completions.create(model="x")
    unknown.completion("not a model")
    [].invoke()
    OpenAI().models.list()
    """client.chat.completions.create() in a text is no call"""
'''


def test_calls_are_found_by_syntax_and_told_apart() -> None:
    """A text search finds comments and misses aliases; either makes the list useless on its first page."""
    Path("app").mkdir()
    Path("app/service.py").write_text(CODE, encoding="utf-8")
    sites, bad = inventory(Path("app"))
    assert bad == []
    assert [(site.function, site.library, site.callback, site.attributed) for site in sites] == [
        ("Service.ask", "openai", "no", False),
        ("Service.ask", "anthropic", "no", False),
        ("Service.ask", "google", "no", False),
        ("Service.paid", "litellm", "no", True),
        ("plain", "openai", "no", False),
        ("plain", "litellm", "no", True),
        ("plain.later", "litellm", "no", False),
        ("plain", "langchain", "yes", False),
        ("plain", "langchain", "no", False),
        ("plain", "langchain", "yes", False),
        ("plain", "langchain", "yes", False),
        ("plain", "litellm", "no", False),
        ("plain", "crewai", "no", False),
        ("plain", "bedrock", "no", False),
        ("plain", "openai", "no", False),
    ]


def test_a_callback_of_the_process_counts_wherever_it_is_installed() -> None:
    """LiteLLM's and CrewAI's callbacks are made once, in another file than the calls."""
    Path("app/.venv").mkdir(parents=True)
    Path("app/.venv/hidden.py").write_text("import litellm\nlitellm.completion()", encoding="utf-8")
    Path("app/setup.py").write_text("import farthing_litellm as f\nf.FarthingLogger(feature='x')", encoding="utf-8")
    Path("app/calls.py").write_text("import litellm\nlitellm.completion(model='x')", encoding="utf-8")
    (site,), _ = inventory(Path("app"))
    assert (site.path, site.line, site.callback) == ("calls.py", 2, "elsewhere")


def test_the_command_says_what_is_missed_and_fails() -> None:
    """CI must be able to stop a call that nobody pays for; a broken file must be said, not skipped."""
    Path("app").mkdir()
    Path("app/a.py").write_text("import litellm\nlitellm.completion(model='x')", encoding="utf-8")
    Path("app/broken.py").write_text("def (", encoding="utf-8")
    Path("app/binary.py").write_bytes(b"\x00\xff")
    result = CliRunner().invoke(app, ["inventory", "app"])
    assert result.exit_code == 1
    assert "1 call site; 1 without callback and attribute(): 1 litellm." in result.output
    assert "broken.py: left out" in result.output
    assert "binary.py: left out" in result.output
    found = json.loads(CliRunner().invoke(app, ["inventory", "app/a.py", "--format", "json"]).stdout)
    assert found[0]["line"] == 2
    assert CliRunner().invoke(app, ["inventory", "nowhere"]).exit_code == 2
    Path("empty").mkdir()
    assert CliRunner().invoke(app, ["inventory", "empty"]).exit_code == 0
