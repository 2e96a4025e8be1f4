"""docs/peers.md: the table of who is right where, with the versions and the figures behind every word."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import date

__all__ = ["Result", "write"]

_HEAD = """\
# Who is right where

The same calls, through the same frameworks, watched by farthing and by its peers, and laid beside the invoice of the
provider that answered. `make peers` runs all of it and writes this page; it needs no key. Last run: {on}.

- **right**: every billed request stands there once, with its amount; and where no client was ever told the usage (a
  broken stream, a cancelled call), the call stands there without one.
- **double**: a billed request is counted more than once, or an answer from a cache is counted as bought.
- **lost**: a billed request is missing, or stands there without tokens although the client was told them.
- **wrong**: another amount than the invoice's; a guess that nothing marks as one; $0 for what is not known.
- **no model**: the tokens are those of the invoice, and no model is named that they could be priced by.
- **crash**: the peer, or the framework with it, did not survive the cell; the log is below.
- **-**: it has nothing for this framework.

How it is compared, to be fair: who says what a call cost is held to that (LiteLLM, and openinference, which copies
LiteLLM's figure). Who says tokens only gets them priced by farthing's own price book, with the model, the cached tokens
and the served tier where the span names them: it is never blamed for a price list. langfuse prices on its server,
which does not run here; what its SDK sends is priced in that way. A call is a span of the kind that stands for one
model call; spans around it are not counted. Tags are not compared. A package is installed and switched on as its README
says. Where a row has two frameworks, the peer's packages for both are on, as both of farthing's plugins are. In the row
of CrewAI, traceloop also has its package for OpenAI's client, as its package for CrewAI leaves those calls to it. The
calls, the situations and the judge are `tests/matrix` and `benchmarks/peers`; the prices of the invoice are the fake
provider's own list.

| | packages |
| --- | --- |
| frameworks | {frameworks} |
{peers}
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One cell of one peer."""

    peer: str
    row: str
    situation: str
    verdict: str
    figures: str
    log: str = ""

    def document(self) -> dict[str, Any]:
        """Give it as JSON takes it."""
        return asdict(self)


def write(
    results: Sequence[Result],
    *,
    versions: Mapping[str, Mapping[str, str]],
    titles: Mapping[str, tuple[str, Any]],
    adapters: Mapping[str, Any],
    on: date,
) -> str:
    """Write the page."""
    peers = list(adapters)
    rows = list(dict.fromkeys(each.row for each in results))
    rows.sort(key=list(titles).index)
    found = {(each.row, each.situation, each.peer): each for each in results}
    shared = ("litellm", "langchain-core", "langchain-openai", "langchain-anthropic", "langchain-litellm", "crewai")
    ours = versions[peers[0]]
    parts = [
        _HEAD.format(
            on=on,
            frameworks=", ".join(f"{name} {ours[name]}" for name in shared),
            peers="\n".join(_packages(peer, adapters[peer].packages, versions[peer]) for peer in peers),
        ),
        "## In short\n\nCells that are right, of those that were run.\n\n" + _short(results, rows, peers, titles),
    ]
    parts += [f"## {titles[row][0]}\n\n" + _table(found, row, peers, titles[row][1]) for row in rows]
    parts.append("## The figures\n\nOf every cell that is not right.\n\n" + _figures(results, rows, peers, titles))
    return "\n\n".join(part.rstrip() for part in parts) + "\n"


def _packages(peer: str, packages: Sequence[str], versions: Mapping[str, str]) -> str:
    own = {"farthing": "this repository", "litellm response_cost": f"litellm {versions['litellm']}, a custom callback"}
    return f"| {peer} | {own.get(peer) or ', '.join(f'{name} {versions[name]}' for name in packages)} |"


def _short(
    results: Sequence[Result], rows: Sequence[str], peers: Sequence[str], titles: Mapping[str, tuple[str, Any]]
) -> str:
    lines = [f"| | {' | '.join(peers)} |", "| --- |" + " --- |" * len(peers)]
    for row in rows:
        cells: list[str] = []
        for peer in peers:
            verdicts = [each.verdict for each in results if (each.row, each.peer) == (row, peer)]
            cells.append(f"{verdicts.count('right')} of {len(verdicts)}" if verdicts else "-")
        lines.append(f"| {titles[row][0]} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _table(found: Mapping[tuple[str, str, str], Result], row: str, peers: Sequence[str], says: Any) -> str:
    situations = [each.situation for each in found.values() if (each.row, each.peer) == (row, peers[0])]
    lines = [f"| | {' | '.join(peers)} |", "| --- |" + " --- |" * len(peers)]
    for situation in situations:
        cells = (found.get((row, situation, peer)) for peer in peers)
        words = ["-" if cell is None else cell.verdict for cell in cells]
        shown = [word if word in {"right", "-"} else f"**{word}**" for word in words]
        lines.append(f"| {says[situation]} | {' | '.join(shown)} |")
    return "\n".join(lines)


def _figures(
    results: Sequence[Result], rows: Sequence[str], peers: Sequence[str], titles: Mapping[str, tuple[str, Any]]
) -> str:
    lines: list[str] = []
    for peer in peers:
        for row in rows:
            bad = [each for each in results if (each.row, each.peer) == (row, peer) and each.verdict != "right"]
            if not bad:
                continue
            lines.append(f"**{peer}, {titles[row][0]}**\n")
            for each in bad:
                lines.append(f"- {titles[row][1][each.situation]}: {each.verdict}. {each.figures.capitalize()}.")
                if each.log:
                    lines.append("\n" + "\n".join(f"      {line}" for line in each.log.strip().splitlines()) + "\n")
            lines.append("")
    return "\n".join(lines) or "Every cell is right."
