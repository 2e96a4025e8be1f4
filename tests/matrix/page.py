"""docs/matrix.md, made from what the cells declare; `make matrix` writes it after a run in which all of them held."""

from __future__ import annotations

from collections import Counter
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Final

from matrix.cells import UNKNOWN
from matrix.environments import ENVIRONMENTS
from matrix.rows import ROWS
from matrix.situations import SITUATIONS
from matrix.table import cells_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from matrix.cells import Cell, Promise

__all__ = ["PAGE", "VERSIONS", "render", "render_versions"]

PAGE: Final = Path(__file__).parents[2] / "docs" / "matrix.md"
VERSIONS: Final = "## Versions of this run\n"
"""Where that begins which differs from run to run."""

_NONE: Final = "n/a"
_INTRODUCTION: Final = f"""\
# The contract matrix

One model call is one bill, on every stack and in every situation. Each cell of this table is a test in
[tests/matrix](../tests/matrix): a real framework, over real HTTP, against a provider that keeps its own invoice. It
holds when every request on that invoice is owned by exactly one call of the ledger, to the last digit, or stands there
as unknown with its reason; when the tags are those of the right request; when nothing is left open; and when the next
request, which has no tags, gets none. `make matrix` runs it all, and writes this page only if every cell held.
`make test ARGS='tests/matrix -k langchain-openai-left'` runs one cell.

| | |
| --- | --- |
| ✓ | the ledger's total is the invoice's, to the last digit |
| ~ | so it is, but a call has lost its tag |
| ? | what the provider billed was never told: the call stands in the ledger, unknown, with the reason |
| ✗ | the ledger is not the invoice, because the framework hides what it would take |
| {_NONE} | there is no such thing |

A number leads to the note that says why a cell differs from its neighbours. Every exception is tested as it stands: the
day a framework tells more, its test fails, and the note goes.
"""

_DISTRIBUTIONS: Final = (
    "litellm",
    "langchain-core",
    "langchain",
    "langgraph",
    "langchain-openai",
    "langchain-anthropic",
    "langchain-aws",
    "langchain-google-genai",
    "langchain-litellm",
    "crewai",
    "openai",
    "anthropic",
    "google-genai",
    "boto3",
)


class _Notes:
    """Sentences, numbered in the order of their first use."""

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}

    def number(self, sentence: str) -> int:
        return self._numbers.setdefault(sentence, len(self._numbers) + 1)

    def __iter__(self) -> Iterator[str]:
        return (f"{number}. {sentence}" for sentence, number in self._numbers.items())


def render() -> str:
    """Give the page up to the versions."""
    notes = _Notes()
    cells = {(cell.row.name, cell.situation.name): cell for row in ROWS for cell in cells_of(row)}
    lines = [
        _INTRODUCTION,
        "| | " + " | ".join(row.title for row in ROWS) + " |",
        "| --- " * (len(ROWS) + 1) + "|",
    ]
    for situation in SITUATIONS:
        shown = [_shown(cells[row.name, situation.name], notes) for row in ROWS]
        lines.append(f"| **{situation.name}**: {situation.says} | " + " | ".join(shown) + " |")
    symbols = Counter(_symbol(cell.promise) for cell in cells.values() if cell.impossible is None)
    counts = ", ".join(f"{count} {symbol}" for symbol, count in symbols.most_common())
    lines += ["", f"{symbols.total()} cells: {counts}."]
    lines += ["", "## Notes", "", *notes, "", "## Lowest and newest versions", "", *_floors(), ""]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def render_versions() -> str:
    """Give the rest of the page: the versions that are installed here."""
    found: list[str] = []
    for name in _DISTRIBUTIONS:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            continue
    return f"{VERSIONS}\n{', '.join(found)}.\n"


def _shown(cell: Cell, notes: _Notes) -> str:
    if cell.impossible is not None:
        return f"{_NONE} {notes.number(cell.impossible)}"
    symbol = _symbol(cell.promise)
    return symbol if cell.promise.why is None else f"{symbol} {notes.number(cell.promise.why)}"


def _symbol(promised: Promise) -> str:
    if promised.invisible:
        return "✗"
    if UNKNOWN & {*promised.statuses, *promised.untagged}:
        return "?"
    return "~" if promised.untagged else "✓"


def _floors() -> list[str]:
    head = [
        "`make floors` runs the rows and the plugins' own tests in an environment of its own for each of these.",
        "It takes a while, and is not part of `make check`.",
        "",
        "| environment | asks for | why |",
        "| --- | --- | --- |",
    ]
    return head + [
        f"| {each.name} | {', '.join(f'`{one}`' for one in each.requirements)} | {each.why} |" for each in ENVIRONMENTS
    ]
