"""One peer in the cells of one row, in an environment of its own; a line of JSON for each cell.

Started by run.py. A cell that takes the process along is known by the line that is missing.
"""

from __future__ import annotations

import argparse
import faulthandler
import gc
import json
import logging
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
sys.path[:0] = [str(HERE), str(ROOT / "tests"), str(ROOT / "packages" / "core" / "src")]
os.environ |= {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_STORAGE_DIR": tempfile.mkdtemp(prefix="farthing-crewai-"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "ANTHROPIC_OPEN_TELEMETRY": "false",
    "FARTHING_LEDGER": "off",
    "AWS_ACCESS_KEY_ID": "unused",
    "AWS_SECRET_ACCESS_KEY": "unused",
    "AWS_DEFAULT_REGION": "us-east-1",
    "OPENAI_API_KEY": "unused",
    "ANTHROPIC_API_KEY": "unused",
    "GEMINI_API_KEY": "unused",
}
os.environ.pop("OTEL_SDK_DISABLED", None)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from observers import Peer

    from farthing.testing.provider import FakeProvider
    from matrix.cells import Cell, Row

CELL_SECONDS = 150


def rows() -> Iterator[Row]:
    """Find the rows of the matrix whose frameworks are installed here."""
    from importlib import import_module  # noqa: PLC0415 - after the paths

    from matrix.cells import Row  # noqa: PLC0415 - as above

    for path in sorted((ROOT / "tests" / "matrix").glob("drive_*.py")):
        module = import_module(f"matrix.{path.stem}")
        yield from (each for each in vars(module).values() if isinstance(each, Row))


def run(cell: Cell, *, provider: FakeProvider, peer: Peer) -> dict[str, Any]:
    """Run one cell and judge it."""
    from verdict import Line  # noqa: PLC0415 - as above

    from matrix import lab  # noqa: PLC0415 - after the paths

    before = len(provider.invoice.lines)
    peer.expected = lambda: len(provider.invoice.lines) - before
    faulthandler.dump_traceback_later(CELL_SECONDS, exit=True)
    try:
        lab.run(cell, provider=provider, observer=peer)
    except BaseException as error:  # noqa: BLE001 - whatever it is, it is the finding
        return {"verdict": "crash", "figures": f"{type(error).__name__}: {str(error)[:300]}", "log": _last(error)}
    finally:
        faulthandler.cancel_dump_traceback_later()
    lines = [
        Line(amount_usd=line.amount_usd, input_tokens=line.input_tokens, output_tokens=line.output_tokens)
        for line in provider.invoice.lines[before:]
    ]
    promised = {**cell.promise.statuses, **cell.promise.untagged}
    unknown = promised.get("unreported", 0) + promised.get("estimated", 0) + cell.promise.invisible
    return {"lines": lines, "seen": list(peer.seen), "unknown": unknown}


def told(name: str, found: dict[str, Any]) -> None:
    """Print what was found in a cell; what a later cell says again holds."""
    from verdict import judge  # noqa: PLC0415 - after the paths

    if "verdict" not in found:
        verdict, figures = judge(found["lines"], found["seen"], unknown=found["unknown"])
        found = {"verdict": verdict, "figures": figures}
    print("CELL " + json.dumps({"situation": name, **found}), flush=True)


def give_back(found: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Move what came late, in a later cell, back to the cell that was billed for it, and name the cells that change.

    LiteLLM reports some ends only when the next event loop runs: late, but not lost.
    """
    from verdict import unmatched  # noqa: PLC0415 - after the paths

    judged = [(name, each) for name, each in found.items() if "lines" in each]
    for at, (name, cell) in enumerate(judged):
        for later_name, later in judged[at + 1 :]:
            owed, _ = unmatched(cell["lines"], cell["seen"])
            _, extra = unmatched(later["lines"], later["seen"])
            for each in extra:
                if unmatched(owed, [each])[1]:
                    continue
                later["seen"].remove(each)
                cell["seen"].append(each)
                yield name
                yield later_name


def _about(row: Row, cells: list[Cell]) -> dict[str, Any]:
    possible = [each for each in cells if each.impossible is None]
    return {
        "title": row.title,
        "frameworks": list(row.frameworks),
        "situations": [each.situation.name for each in possible],
        "says": {each.situation.name: each.situation.says for each in possible},
    }


def _last(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)[-3:])[-1500:]


def main() -> None:
    """Run the cells that are asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", action="store_true", help="print the rows of the matrix, and end")
    parser.add_argument("--peer")
    parser.add_argument("--row")
    parser.add_argument("--skip", type=int, default=0, help="cells that are done")
    parser.add_argument("--only", help="one situation")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    from matrix.table import cells_of  # noqa: PLC0415 - after the paths

    if given.list:
        print(json.dumps({row.name: _about(row, cells_of(row)) for row in rows()}))
        return
    row = next(each for each in rows() if each.name == given.row)
    from observers import PEERS  # noqa: PLC0415 - as above

    from farthing.testing.provider import FakeProvider  # noqa: PLC0415 - as above

    cells = [each for each in cells_of(row) if each.impossible is None][given.skip :]
    with FakeProvider() as provider:
        os.environ |= {
            "OPENAI_BASE_URL": provider.openai_url,
            "OPENAI_API_BASE": provider.openai_url,
            "ANTHROPIC_BASE_URL": provider.anthropic_url,
            "GOOGLE_GEMINI_BASE_URL": provider.gemini_url,
            "AWS_ENDPOINT_URL_BEDROCK_RUNTIME": provider.bedrock_url,
        }
        peer = PEERS[given.peer](row.frameworks)
        run(cells[0], provider=provider, peer=peer)  # the first call of a process comes late everywhere
        found: dict[str, dict[str, Any]] = {}
        for cell in cells:
            if given.only in {None, cell.situation.name}:
                found[cell.situation.name] = run(cell, provider=provider, peer=peer)
                told(cell.situation.name, found[cell.situation.name])
                gc.collect()
        for name in dict.fromkeys(give_back(found)):
            told(name, found[name])
    print("DONE", flush=True)


if __name__ == "__main__":
    try:
        main()
    except BaseException:  # noqa: BLE001 - for who reads the output
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)  # pools and exporters of the peers' hold an exit up
