"""The command line of price files and of repricing: options in, text out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path  # noqa: TC003 - typer reads it at run time
from typing import Annotated, Final, Literal

import typer

__all__ = ["prices_app", "reprice"]

prices_app: Final = typer.Typer(
    help="Price files: which is in force, fetch one, put one in force.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
)


@prices_app.command()
def status(form: Annotated[Literal["table", "json"], typer.Option("--format")] = "table") -> None:
    """Say which prices are in force: source, version, age, size, your overrides, and what is doubtful about them.

    **Example:** `farthing prices status`
    """
    from farthing_reports.prices_commands import run_status  # noqa: PLC0415 - the price data is loaded by who needs it

    run_status(form=form, now=datetime.now(UTC))


@prices_app.command()
def pull(
    source: Annotated[str, typer.Argument(metavar="URL_OR_FILE", help="Yours; farthing has no address of its own.")],
    *,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="Where to write it; nothing is put in force.")],
    sha256: Annotated[str | None, typer.Option("--sha256", metavar="HEX", help="What it must hash to.")] = None,
) -> None:
    """Fetch price data, check that it is whole and sane, and write it to a file.

    **Example:** `farthing prices pull https://prices.example.com/prices.json --out prices.json`

    It may be in farthing's own format or in that of genai-prices' `v2/data.json`.
    """
    from farthing_reports.prices_commands import run_pull  # noqa: PLC0415 - see above

    run_pull(source, out=out, sha256=sha256)


@prices_app.command()
def use(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A price file, e.g. from: farthing prices pull.")],
    *,
    accept: Annotated[bool, typer.Option("--accept", help="Take it although prices are lost or move far.")] = False,
    bound: Annotated[
        str, typer.Option("--bound", metavar="SHARE", help="How far a rate may move without --accept.")
    ] = "50%",
) -> None:
    """Compare a price file with the prices in force, and put it in force.

    It replaces the file that the setting `prices.file` names (which is kept as `<name>.previous`); without that
    setting it is copied into your state folder. Running processes take it over without a restart.

    **Example:** `farthing prices use prices.json`
    """
    from farthing_reports.prices_commands import run_use  # noqa: PLC0415 - see above

    run_use(file, accept=accept, bound=bound, now=datetime.now(UTC))


@prices_app.command()
def reset() -> None:
    """Go back to the prices that ship with farthing.

    **Example:** `farthing prices reset`
    """
    from farthing_reports.prices_commands import run_reset  # noqa: PLC0415 - see above

    run_reset()


def reprice(
    *,
    out: Annotated[str, typer.Option("--out", metavar="FILE", help="FILE.jsonl, FILE.csv, or - for JSON lines.")],
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="Calls from here on: 7d, 24h, 2026-11-24.")] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Calls before this moment.")] = None,
    prices: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Another price file; your overrides stay.")
    ] = None,
    ledger: Annotated[
        Path | None,
        typer.Option("--ledger", metavar="FOLDER", help="The ledger's folder; without it, the one farthing writes to."),
    ] = None,
) -> None:
    """Price recorded calls anew, each at its own moment, and show the difference. The ledger is not changed.

    **Examples**

    `farthing reprice --since 2026-11-01 --until 2026-12-01 --out november.csv`

    `farthing reprice --since 7d --prices new.json --out -`
    """
    from farthing_reports.prices_commands import run_reprice  # noqa: PLC0415 - see above

    run_reprice(since=since, until=until, prices=prices, ledger=ledger, out=out, now=datetime.now(UTC))
