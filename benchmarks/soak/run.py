"""A soak: thousands of mixed calls from fifty tasks and threads, and then the ledger beside the invoice: `make soak`.

LiteLLM, LangChain on its own clients and over LiteLLM, and CrewAI ask a provider in another process that keeps its own
invoice: whole and streamed answers, streams that are left, cancels at random moments, time-outs, errors before and in
the middle of an answer, retries, fallbacks, caches, tiers. Each call has tags that no other has. Afterwards every
request must be exactly one Call, of the same amount to the last digit or `unreported` with its reason; no tag may be on
another's call; nothing may be left open; memory must not grow. The exit code is 1 where anything differs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))
os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_DISABLE_TRACKING": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LITELLM_MODE": "PRODUCTION",
    "LITELLM_LOG": "CRITICAL",
    "LANGSMITH_TRACING": "false",
    "OPENAI_API_KEY": "unused",
    "ANTHROPIC_API_KEY": "unused",
    "ANTHROPIC_OPEN_TELEMETRY": "false",
    "OTEL_SDK_DISABLED": "true",
}


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0], epilog="Exit code 1: something differs.")
    parser.add_argument("--calls", type=int, default=20_000, help="how many (default 20,000)")
    parser.add_argument("--seed", type=int, default=None, help="of the dice; the default is drawn and printed")
    parser.add_argument("--threads", type=int, default=25, help="that ask (default 25)")
    parser.add_argument("--tasks", type=int, default=25, help="of an event loop that ask (default 25)")
    parser.add_argument("--phases", type=int, default=8, help="memory is looked at between them (default 8)")
    parser.add_argument("--only", metavar="TEXT", help="the ways whose name contains this")
    parser.add_argument("--skip", metavar="TEXT", help="the ways whose name contains this are left out")
    parser.add_argument("--without", action="store_true", help="without farthing: the frameworks' own growth of memory")
    parser.add_argument("--trace", action="store_true", help="count what each line of farthing's holds: slower")
    parser.add_argument("--keep", metavar="FOLDER", help="keep ledger and invoice here")
    return parser.parse_args()


def main() -> int:
    """Run and judge; gives the exit code."""
    given = arguments()
    seed = given.seed if given.seed is not None else int.from_bytes(os.urandom(4))
    print(f"seed {seed}: run it again with --calls {given.calls} --seed {seed}", flush=True)
    from work import say  # noqa: PLC0415 - as above

    from soak import Soak  # noqa: PLC0415 - the frameworks read the variables above

    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="farthing-soak-") as folder:
        kept = Path(given.keep or folder)
        if given.keep and kept.exists() and any(kept.iterdir()):
            sys.exit(
                f"--keep {kept}: must be empty, or not be there; another run's ledger would be taken for this one's"
            )
        kept.mkdir(parents=True, exist_ok=True)
        soak = Soak(given, seed=seed, folder=kept)
        differences = soak.run()
    say(f"{time.monotonic() - began:.0f} s")
    if differences:
        say(f"\n{len(differences)} differences; the first:")
        for each in differences[:20]:
            say(f"  {each}")
        return 1
    say("\nNo difference.")
    return 0


if __name__ == "__main__":
    os._exit(main())  # LiteLLM's and CrewAI's pools hold an exit up for seconds, and there is nothing left to lose
