"""A small shop with three LLM features, run against a provider on loopback that keeps its own invoice.

    python examples/shop/run.py

Then it shows one request as a tree, the cost by feature, route and team, and the attributed total beside the invoice.
With OTEL_EXPORTER_OTLP_ENDPOINT set, the same run is also sent to Jaeger, Tempo or any other OTLP backend.
"""

from __future__ import annotations

import asyncio
import logging
import os
import shutil
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path

# Before any framework is imported: nothing of theirs may report to its vendor, ask for input or fetch a price list.
os.environ.update(
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_TRACING_ENABLED="false",
    LITELLM_LOCAL_MODEL_COST_MAP="True",
    LANGSMITH_TRACING="false",
    OPENAI_API_KEY="unused",
    ANTHROPIC_API_KEY="unused",
)

from rich.console import Console

import farthing
from farthing.testing import read_calls
from farthing.testing.provider import FakeProvider, Fault, Reply

logging.getLogger("crewai").setLevel(logging.ERROR)  # it warns of its own guess at token counts, which is not used here
OUT = Console(highlight=False)
LEDGER = Path(".demo/ledger")


def main() -> int:
    """Run the shop, then show who paid."""
    shutil.rmtree(LEDGER, ignore_errors=True)
    farthing.configure(ledger=str(LEDGER), service_name="bicycle-shop", defaults={"environment": "demo"})
    started = time.monotonic()
    with FakeProvider() as provider:
        OUT.print("[bold]A bicycle shop with three LLM features[/]")
        OUT.print(f"  the provider is {provider.url}, on this machine; it keeps its own invoice\n")
        step("importing", "LangChain, LiteLLM and CrewAI: some seconds")
        import chatbot  # noqa: PLC0415 - the frameworks take seconds to import: that is said first
        import emails  # noqa: PLC0415 - as above
        import research  # noqa: PLC0415 - as above

        step("chatbot", "LangChain: an answer, a cached one, a stream, a retry")
        provider.script(Reply(text="Yes, we do.", input_tokens=2_400, output_tokens=180, cache_read_tokens=1_024))
        chain = chatbot.build(provider.openai_url)
        chatbot.answer(chain, "Do you repair e-bikes?", tenant="acme")
        chatbot.answer(chain, "Do you repair e-bikes?", tenant="globex")
        chatbot.stream(chain, "Which tyres for winter?", tenant="acme")
        provider.script(Fault(status=500))
        chatbot.answer(chain, "When do you open?", tenant="globex")

        step("email-generator", "LiteLLM: two providers at once, and a refused request")
        emails.install()
        asyncio.run(
            emails.write_all(
                ["acme", "globex", "initech"], openai_url=provider.openai_url, anthropic_url=provider.anthropic_url
            )
        )
        provider.script(Fault(status=400))
        emails.write_refused(openai_url=provider.openai_url)

        step("research", "CrewAI: a crew of two agents and two tasks")
        research.run(base_url=provider.openai_url)

        arrived = farthing.flush(timeout=10)
        provider.settle()
        invoice = provider.invoice
    OUT.print(f"\nran in {time.monotonic() - started:.1f} s\n")

    show("one request, from the outside in", "trace", "--last")
    for dimension in ("feature", "route", "team"):
        show(f"cost by {dimension}", "report", "--by", dimension)
    return settle(invoice.total_usd, len(invoice.lines), arrived=arrived)


def step(feature: str, what: str) -> None:
    """Say what runs now."""
    OUT.print(f"  [green]*[/] {feature:<16} {what}")


def show(title: str, *arguments: str) -> None:
    """Run the `farthing` command as a user would, and show how it was called."""
    OUT.print(f"[bold]{title}[/]\n[dim]$ farthing {' '.join(arguments)} --ledger {LEDGER}[/]")
    sys.stdout.flush()
    command = Path(sys.executable).with_name("farthing")
    subprocess.run([command, *arguments, "--ledger", str(LEDGER)], check=True)  # noqa: S603 - our own command
    OUT.print()


def settle(invoiced: Decimal, requests: int, *, arrived: bool) -> int:
    """Compare what was attributed with what the provider billed."""
    calls = read_calls(LEDGER)
    attributed = sum((call.cost.amount_usd or Decimal(0) for call in calls), Decimal(0))
    unknown = sum(call.cost.amount_usd is None for call in calls)
    equal = attributed == invoiced and not unknown
    OUT.print("[bold]attributed and invoiced[/]")
    OUT.print(f"  in the ledger         ${attributed.normalize():f}   ({len(calls)} calls, {unknown} of unknown cost)")
    OUT.print(f"  provider's invoice    ${invoiced.normalize():f}   ({requests} requests)")
    OUT.print(f"  {'[green]equal to the last digit[/]' if equal else '[red]NOT EQUAL[/]'}\n")
    endpoint = os.environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    OUT.print("[bold]where to look next[/]")
    if endpoint:
        OUT.print(f"  the same run went to {endpoint}: {'delivered' if arrived else 'NOT delivered: farthing doctor'}")
    else:
        OUT.print("  the same run in Jaeger or Tempo:")
        OUT.print("    OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 make demo")
    OUT.print("  other questions to this ledger, and to your setup:")
    OUT.print(f"    .venv/bin/farthing report --by tenant,model --ledger {LEDGER}")
    OUT.print("    .venv/bin/farthing doctor")
    OUT.print("  one plugin each in under 40 lines: examples/; the queries for Tempo: deploy/README.md")
    return 0 if equal and arrived else 1


if __name__ == "__main__":
    sys.exit(main())
