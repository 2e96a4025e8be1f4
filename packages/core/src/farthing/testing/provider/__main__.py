"""Run the fake provider by itself: `python -m farthing.testing.provider --port 18080`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from typing import TYPE_CHECKING

from farthing.testing.provider.scenarios import READY_MADE
from farthing.testing.provider.server import FakeProvider

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType

_EPILOG = f"""\
Every answer is made up and free; the invoice shows what the real providers would have charged.
A request chooses a scenario with the header `x-fake-scenario: NAME` or with /s/NAME before the path.
Scenarios: {", ".join(READY_MADE)}.

Try it:
  curl http://127.0.0.1:18080/v1/chat/completions -d '{{"model": "gpt-4o", "messages": []}}'
  curl http://127.0.0.1:18080/s/rate-limited/v1/chat/completions -d '{{"model": "gpt-4o", "messages": []}}'
"""


def addresses(provider: FakeProvider) -> str:
    """Give the variables that point the usual clients here, as shell exports. Raises: RuntimeError when not running."""
    variables = {
        "OPENAI_BASE_URL": provider.openai_url,
        "OPENAI_API_KEY": "fake",
        "ANTHROPIC_BASE_URL": provider.anthropic_url,
        "ANTHROPIC_API_KEY": "fake",
        "AZURE_OPENAI_ENDPOINT": provider.azure_url,
        "AZURE_OPENAI_API_KEY": "fake",
        "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.bedrock_url,
        "AWS_ACCESS_KEY_ID": "fake",
        "AWS_SECRET_ACCESS_KEY": "fake",
        "AWS_REGION": "us-east-1",
        "GOOGLE_GEMINI_BASE_URL": provider.gemini_url,
        "GEMINI_API_KEY": "fake",
    }
    return "\n".join(f"export {name}={value}" for name, value in variables.items())


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until interrupted, then print the invoice; gives the exit code.

    Raises:
        SystemExit: wrong arguments, or --help.
    """
    parser = argparse.ArgumentParser(
        prog="python -m farthing.testing.provider",
        description="A fake LLM provider on 127.0.0.1: OpenAI, Azure, Anthropic, Bedrock Converse, Gemini, rerankers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--port", type=int, default=18080, help="port to listen on, 0 for a free one (default 18080)")
    parser.add_argument("--invoice", metavar="FILE", help="write the invoice as JSON when interrupted")
    parser.add_argument("--tool-rounds", type=int, default=0, help="call the first tool offered this many times")
    parser.add_argument(
        "--deployment", action="append", default=[], metavar="NAME=MODEL", help="an Azure deployment; may be repeated"
    )
    options = parser.parse_args(arguments)
    if any("=" not in entry for entry in options.deployment):
        parser.error("--deployment takes NAME=MODEL")
    deployments = dict(entry.split("=", 1) for entry in options.deployment)
    interrupted = threading.Event()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        interrupted.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, interrupt)
    try:
        provider = FakeProvider(port=options.port, tool_rounds=options.tool_rounds, deployments=deployments).start()
    except OSError as error:
        parser.error(f"cannot listen on port {options.port}: {error.strerror}")
    _say(f"# fake provider on {provider.url}; Ctrl-C prints the invoice\n{addresses(provider)}")
    interrupted.wait()
    provider.stop()
    _say(f"\n{provider.invoice}")
    if options.invoice:
        provider.invoice.write(options.invoice)
        _say(f"written to {options.invoice}")
    return 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
