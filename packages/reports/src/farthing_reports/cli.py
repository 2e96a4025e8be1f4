"""The command line: options in, text out; the work is done in the other modules."""

from __future__ import annotations

import codecs
import io
import json
import os
import sys
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from typer.core import TyperGroup

from farthing.errors import FarthingError
from farthing_reports.policy_cli import policy_app
from farthing_reports.prices_cli import prices_app, reprice

__all__ = ["app", "main"]


class _Commands(TyperGroup):
    """Turns a fault into one sentence on stderr and exit code 2."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except FarthingError as error:
            Console(stderr=True, soft_wrap=True, highlight=False).print(f"farthing: {error}", markup=False)
            raise typer.Exit(2) from None


app: Final = typer.Typer(
    name="farthing",
    cls=_Commands,
    help="Say which feature, route, team and customer every LLM dollar was spent on.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
ledger_app: Final = typer.Typer(help="The ledger: where it is, and how it is kept small.", no_args_is_help=True)
app.add_typer(ledger_app, name="ledger")
app.add_typer(prices_app, name="prices")
app.add_typer(policy_app, name="policy")


class Format(StrEnum):
    """How rows are written."""

    TABLE = "table"
    JSON = "json"
    CSV = "csv"


class PlainFormat(StrEnum):
    """How other results are written."""

    TABLE = "table"
    JSON = "json"


def _count(name: str, text: str) -> Any:
    return typer.Option(name, metavar="N", help=text)


_PLAINER: Final = {"≥": ">=", **dict.fromkeys("█▉▊▋▌▍▎▏", "#")}

LedgerOption = Annotated[
    Path | None,
    typer.Option("--ledger", metavar="FOLDER", help="The ledger's folder; without it, the one farthing writes to."),
]


@app.command()
def report(
    *,
    by: Annotated[
        str,
        typer.Option("--by", metavar="NAME[,NAME...]", help="Dimensions, model, provider, status, use, day, agent ..."),
    ] = "feature",
    since: Annotated[str | None, typer.Option(metavar="WHEN", help="Calls from here on: 7d, 24h, 2026-11-24.")] = None,
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Calls before this moment.")] = None,
    where: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="Only such calls; also NAME!=VALUE; repeatable.")
    ] = None,
    form: Annotated[Format, typer.Option("--format", help="JSON and CSV hold exact amounts.")] = Format.TABLE,
    top: Annotated[int, typer.Option(min=1, metavar="N", help="Rows of the table; the rest is added up.")] = 40,
    as_recorded: Annotated[
        bool, typer.Option("--as-recorded", help="Keep names apart that the policy has renamed since.")
    ] = False,
    ledger: LedgerOption = None,
) -> None:
    """Add up what calls cost, by feature or by whatever you name.

    **Examples**

    `farthing report`

    `farthing report --by team,model --since 7d`

    `farthing report --by day --where tenant=acme --since 2026-11-01 --until 2026-12-01`

    `farthing report --by feature --format json`

    `farthing report --by use,feature`

    Times are UTC. An amount with `≥` lacks calls whose cost is not known, or is an estimate.
    Names that farthing.toml has renamed or made aliases stand under the name of today, and `--where` takes any of
    them; the ledger itself is never rewritten.

    `use` tells useful spend from waste: **useful** brought the answer; **superseded** was an attempt after which
    another one of the same operation answered; **failed**, **cancelled** (by the application or a time-out) and
    **abandoned** (left, or its end was never reported) brought none; **cached** cost nothing.
    """
    from farthing_reports.commands import run_report  # noqa: PLC0415 - DuckDB is loaded by those who need it

    now = datetime.now(UTC)
    run_report(
        by,
        since=since,
        until=until,
        where=where or [],
        form=form.value,
        top=top,
        as_recorded=as_recorded,
        ledger=ledger,
        now=now,
    )


@app.command()
def trace(
    wanted: Annotated[
        str | None,
        typer.Argument(metavar="[TRACE_ID]", help="Its first digits suffice; a call or response id does too."),
    ] = None,
    *,
    last: Annotated[bool, typer.Option("--last", help="The latest request; so does no TRACE_ID.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Print one request as a tree: its scopes, its calls, and what each of them cost.

    **Examples**

    `farthing trace --last`

    `farthing trace 4bf92f35`
    """
    from farthing_reports.commands import run_trace  # noqa: PLC0415 - see above
    from farthing_reports.faults import CommandError  # noqa: PLC0415 - see above

    if last and wanted is not None:
        raise CommandError("--last: means the latest request; leave it out to see TRACE_ID")
    run_trace(wanted, ledger=ledger)


@app.command()
def doctor(form: Annotated[PlainFormat, typer.Option("--format")] = PlainFormat.TABLE) -> None:
    """Say what is configured, where it exports, and whether that works. Exit code 1 if anything fails.

    Run it in your application's environment and folder, with its variables.

    **Example:** `OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4318 farthing doctor`
    """
    from farthing_reports.commands import run_doctor  # noqa: PLC0415 - see above

    if not run_doctor(form=form.value):
        raise typer.Exit(1)


@app.command()
def price(
    provider: Annotated[str, typer.Argument(metavar="PROVIDER", help="openai, anthropic, aws.bedrock, gemini ...")],
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name, id, profile or ARN.")],
    *,
    input_tokens: Annotated[int | None, _count("--input", "All input tokens, cached ones among them.")] = None,
    output_tokens: Annotated[int | None, _count("--output", "All output tokens, reasoning among them.")] = None,
    cached: Annotated[int | None, _count("--cached", "Input read from the cache; part of --input.")] = None,
    cache_write: Annotated[int | None, _count("--cache-write", "Input written to it; part of --input.")] = None,
    cache_write_5m: Annotated[int | None, _count("--cache-write-5m", "Of these, kept for 5 minutes.")] = None,
    cache_write_1h: Annotated[int | None, _count("--cache-write-1h", "Of these, kept for 1 hour.")] = None,
    reasoning: Annotated[int | None, _count("--reasoning", "Part of --output.")] = None,
    audio_in: Annotated[int | None, _count("--audio-in", "Part of --input.")] = None,
    audio_out: Annotated[int | None, _count("--audio-out", "Part of --output.")] = None,
    web_searches: Annotated[int | None, _count("--web-searches", "Searches that the provider ran.")] = None,
    tier: Annotated[str, typer.Option(metavar="TIER", help="standard, batch, flex, priority, fast.")] = "standard",
    at: Annotated[str | None, typer.Option(metavar="WHEN", help="The call's own time; without it, now.")] = None,
    form: Annotated[PlainFormat, typer.Option("--format")] = PlainFormat.TABLE,
) -> None:
    """Explain a price line by line: quantity, rate, amount, and where the rate comes from.

    Exit code 1 if no price is known.

    **Examples**

    `farthing price openai gpt-4o --input 12345 --output 678 --cached 1000`

    `farthing price openai o3 --input 1000 --output 500 --tier batch --at 2025-06-09`
    """
    from farthing_reports.commands import run_price  # noqa: PLC0415 - see above

    counts = {
        "input_tokens": input_tokens,
        "output_tokens": output_tokens,
        "cache_read_tokens": cached,
        "cache_write_tokens": cache_write,
        "cache_write_5m_tokens": cache_write_5m,
        "cache_write_1h_tokens": cache_write_1h,
        "output_reasoning_tokens": reasoning,
        "input_audio_tokens": audio_in,
        "output_audio_tokens": audio_out,
        "web_searches": web_searches,
    }
    if not run_price(provider, model, counts=counts, tier=tier, at=at, form=form.value, now=datetime.now(UTC)):
        raise typer.Exit(1)


app.command()(reprice)


@ledger_app.command("path")
def ledger_path(ledger: LedgerOption = None) -> None:
    """Print the ledger's folder.

    **Example:** `ls -l "$(farthing ledger path)"`
    """
    from farthing_reports.faults import CommandError  # noqa: PLC0415 - see above
    from farthing_reports.ledger import ledger_location  # noqa: PLC0415 - see above

    folder, _ = ledger_location(ledger)
    if folder is None:
        raise CommandError('ledger: is "off", so there is no folder; remove FARTHING_LEDGER=off or the key ledger')
    typer.echo(folder)


@ledger_app.command("compact")
def ledger_compact(
    *,
    today: Annotated[bool, typer.Option("--today", help="Today's finished files too; else only past days.")] = False,
    ledger: LedgerOption = None,
) -> None:
    """Turn finished files into one Parquet file a day; reports read both.

    A file goes only after every line of it was read back, and never while a process writes to it. It may be run at any
    time, twice or interrupted.

    **Example:** `farthing ledger compact`
    """
    from farthing_reports.commands import run_compact  # noqa: PLC0415 - see above

    run_compact(today_too=today, ledger=ledger, now=datetime.now(UTC))


@app.command()
def replay(
    *,
    since: Annotated[str, typer.Option(metavar="WHEN", help="Calls from here on: 7d, 24h, 2026-11-24.")],
    until: Annotated[str | None, typer.Option(metavar="WHEN", help="Calls before this moment.")] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(metavar="URL", help="Base URL of an OTLP/HTTP receiver; without it, the one configured."),
    ] = None,
    ledger: LedgerOption = None,
) -> None:
    """Send calls of the ledger to an OTLP endpoint again, as the spans they were: same ids, same times.

    **Examples**

    `farthing replay --since 2h`

    `farthing replay --since 2026-11-24 --until 2026-11-25 --endpoint http://localhost:4318`
    """
    from farthing_reports.commands import run_replay  # noqa: PLC0415 - see above

    run_replay(since=since, until=until, endpoint=endpoint, ledger=ledger, now=datetime.now(UTC))


@app.command("inventory")
def list_calls(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A folder or a file of Python code.")],
    *,
    form: Annotated[PlainFormat, typer.Option("--format")] = PlainFormat.TABLE,
) -> None:
    """List the places in a codebase that call a model, and whether farthing reaches each. Nothing is run.

    Exit code 1 if any of them has neither a callback nor an attribute().

    **Example:** `farthing inventory src`
    """
    from farthing_reports.inventory_view import run_inventory  # noqa: PLC0415 - see above

    if not run_inventory(path, form=form.value):
        raise typer.Exit(1)


@app.command()
def schema() -> None:
    """Print the JSON Schema of one line of the ledger.

    **Example:** `farthing schema > call.schema.json`
    """
    from farthing.envelope import Call  # noqa: PLC0415 - see above

    typer.echo(json.dumps(Call.model_json_schema(by_alias=True, mode="serialization"), indent=2))


def _plainer(error: UnicodeError) -> tuple[str, int]:
    """Write what an old terminal cannot show in characters that it can."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wanted = error.object[error.start : error.end]
    return "".join(_PLAINER.get(c, c.encode("ascii", "backslashreplace").decode()) for c in wanted), error.end


def main() -> None:
    """Run the command."""
    codecs.register_error("farthing", _plainer)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="farthing")
    try:
        app()
    except BrokenPipeError:
        # The reader has seen enough (`farthing report | head`); Python would complain while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
