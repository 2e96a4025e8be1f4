"""The list of call sites as a table or as JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import TYPE_CHECKING

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from farthing_reports import render
from farthing_reports.faults import CommandError
from farthing_reports.inventory import inventory

if TYPE_CHECKING:
    from pathlib import Path

    from farthing_reports.inventory import CallSite

__all__ = ["run_inventory"]

_NO_CALLBACK = frozenset({"openai", "anthropic", "bedrock", "google"})


def run_inventory(path: Path, *, form: str) -> bool:
    """Print the call sites below a path.

    Returns:
        Whether farthing reaches every one of them.

    Raises:
        CommandError: There is no such path.
    """
    if not path.exists():
        raise CommandError(f"{path}: is no folder and no file")
    sites, unreadable = inventory(path)
    if form == "json":
        typer.echo(json.dumps([site._asdict() for site in sites], indent=2))
    elif sites:
        console = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 200)
        console.print(_table(sites))
        for sentence in _sentences(sites):
            console.print(sentence, markup=False)
    else:
        Console(highlight=False).print(f"{path}: no call of a model was found.", markup=False)
    for each in unreadable:
        render.stderr().print(f"{each.path}: left out, cannot be read as Python ({each.reason})", style="yellow")
    return all(_is_reached(site) for site in sites)


def _is_reached(site: CallSite) -> bool:
    return site.callback != "no" or site.attributed


def _table(sites: list[CallSite]) -> Table:
    table = Table(Column("place", overflow="fold"), "in", "library", "call", "callback", "attribute()", box=None)
    for site in sites:
        callback = site.callback if site.library not in _NO_CALLBACK else "none exists"
        row = (f"{escape(site.path)}:{site.line}", site.function, site.library, escape(site.call), callback)
        table.add_row(*row, "yes" if site.attributed else "no", style=None if _is_reached(site) else "bold")
    return table


def _sentences(sites: list[CallSite]) -> list[str]:
    missed = Counter(site.library for site in sites if not _is_reached(site))
    total = render.plural(len(sites), "call site")
    if not missed:
        return [f"{total}; farthing reaches every one."]
    by_library = ", ".join(f"{count} {library}" for library, count in missed.most_common())
    return [f"{total}; {sum(missed.values())} without callback and attribute(): {by_library}."]
