"""What each command does once its options are parsed: read, compute, print."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import typer
from rich.console import Console

from farthing.envelope import DIMENSIONS
from farthing.settings import load_settings
from farthing_reports import render
from farthing_reports.faults import CommandError
from farthing_reports.keys import Key, Vocabulary
from farthing_reports.ledger import Ledger, find_ledger, ledger_location
from farthing_reports.moments import parse_moment
from farthing_reports.renames import AS_RECORDED, renames_in_force
from farthing_reports.report import Report, aggregate, names_in, total

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from pathlib import Path

__all__ = ["run_compact", "run_doctor", "run_price", "run_replay", "run_report", "run_trace"]

_NOTHING: Final = "Nothing has been recorded there yet. Run your application with farthing, or name a folder: --ledger"


def run_report(
    by: str,
    *,
    since: str | None,
    until: str | None,
    where: list[str],
    form: str,
    top: int,
    as_recorded: bool,
    ledger: Path | None,
    now: datetime,
) -> None:
    """Print a report.

    Raises:
        FarthingError: An option or the configuration cannot be used.
    """
    start = None if since is None else parse_moment(since, now=now, option="--since")
    end = None if until is None else parse_moment(until, now=now, option="--until")
    if start is not None and end is not None and start >= end:
        raise CommandError(f"--until: {until!r} is not after --since {since!r}, so no call can match; swap them")
    found = find_ledger(ledger)
    names = [name for name in by.split(",") if name.strip()]
    if not names:
        raise CommandError("--by: is empty; write e.g. --by feature or --by team,model")
    vocabulary = _vocabulary(found, [*names, *(text.partition("=")[0].removesuffix("!") for text in where)])
    keys = list({key.name: key for key in (vocabulary.require(name, "--by") for name in names)}.values())
    filters = vocabulary.filters(where, "--where")
    renames = AS_RECORDED if as_recorded else renames_in_force(load_settings({}), day=now.date())
    result = aggregate(found, keys, since=start, until=end, filters=filters, renames=renames)
    _print_report(result, keys, form=form, top=top)
    _print_remarks(found, result, narrowed=bool(start or end or filters))


def run_trace(wanted: str | None, *, ledger: Path | None) -> None:
    """Print one request as a tree.

    Raises:
        FarthingError: There is no such trace, or the configuration cannot be used.
    """
    from farthing_reports.trace import find_trace  # noqa: PLC0415 - it needs the whole envelope
    from farthing_reports.trace_view import trace_tree  # noqa: PLC0415 - see above

    trace, damaged = find_trace(find_ledger(ledger), wanted)
    console = Console(highlight=False)
    console.print(trace_tree(trace))
    if damaged:
        render.stderr().print(f"{render.plural(damaged, 'damaged line')} of this trace left out", style="yellow")


def run_compact(*, today_too: bool, ledger: Path | None, now: datetime) -> None:
    """Compact the ledger and say what became of it.

    Raises:
        FarthingError: The ledger is off, cannot be written, or somebody else compacts it.
    """
    from farthing_reports.compact import compact  # noqa: PLC0415 - only this command writes

    folder, _ = ledger_location(ledger)
    if folder is None or not folder.is_dir():
        raise CommandError(f"{folder or 'the ledger'}: is no folder, so there is nothing to compact")
    done = compact(folder, now=now, today_too=today_too)
    typer.echo(
        f"{render.plural(done.segments, 'file')} with {render.plural(done.lines, 'line')} are now "
        f"{render.plural(done.files, 'Parquet file')}: {done.bytes_before / 1e6:,.1f} MB became "
        f"{done.bytes_after / 1e6:,.1f} MB."
        if done.segments
        else "Nothing to compact."
    )
    if done.busy:
        typer.echo(f"{render.plural(done.busy, 'file')} of processes that still run stay as they are.")
    for name, reason in done.left.items():
        render.stderr().print(f"{name}: {reason}", markup=False, style="yellow")


def run_replay(*, since: str, until: str | None, endpoint: str | None, ledger: Path | None, now: datetime) -> None:
    """Send a range of the ledger again and say how much.

    Raises:
        FarthingError: An option cannot be used, or the endpoint does not take it.
    """
    from farthing_reports.endpoints import destination  # noqa: PLC0415 - only where something is sent
    from farthing_reports.replay import replay  # noqa: PLC0415 - as above

    start = parse_moment(since, now=now, option="--since")
    end = None if until is None else parse_moment(until, now=now, option="--until")
    settings = load_settings({})
    url = f"{endpoint.rstrip('/')}/v1/traces" if endpoint is not None else destination("TRACES", settings)
    if url is None:
        raise CommandError("--endpoint: is missing, and no OTEL_* variable names one; write e.g. http://localhost:4318")
    done = replay(find_ledger(ledger), url, prefix=settings.attribution_prefix, since=start, until=end)
    typer.echo(f"{render.plural(done.sent, 'call')} sent to the endpoint again.")
    for count, what in ((done.refused, "refused by the receiver"), (done.damaged, "damaged and left out")):
        if count:
            render.stderr().print(f"{render.plural(count, 'call')} {what}", style="yellow")


def run_doctor(*, form: str) -> bool:
    """Print what was found.

    Returns:
        Whether nothing failed.
    """
    from farthing_reports.doctor import examine  # noqa: PLC0415 - it needs httpx and the whole core

    with render.stderr().status("asking the endpoints ..."):
        checks = examine()
    if form == "json":
        typer.echo(json.dumps([check.model_dump(mode="json") for check in checks], indent=2))
    else:
        Console(highlight=False).print(render.checks_table(checks))
    return all(check.state != "fail" for check in checks)


def run_price(
    provider: str, model: str, *, counts: Mapping[str, int | None], tier: str, at: str | None, form: str, now: datetime
) -> bool:
    """Print a price and what it rests on; tell whether there is one.

    Raises:
        FarthingError: An option, the configuration or the user's price data cannot be used.
    """
    from farthing_reports import price  # noqa: PLC0415 - it loads the price data

    if tier not in price.TIERS:
        raise CommandError(f"--tier: {tier!r} is none; there are {', '.join(price.TIERS)}")
    moment = now if at is None else parse_moment(at, now=now, option="--at")
    usage = price.usage_of(counts)
    cost = price.price_usage(provider, model, usage, at=moment, tier=tier)
    if form == "json":
        typer.echo(price.cost_json(cost))
        return cost.amount_usd is not None
    console = Console(highlight=False)
    console.print(f"{provider} {model}", markup=False, style="bold")
    console.print(price.cost_table(cost))
    console.print()
    for label, sentence in price.cost_sentences(cost, at=moment):
        console.print(f"{label + ':':<15}{sentence}", markup=False, soft_wrap=True)
    if near := price.near_names(cost, provider, model):
        console.print(f"{'did you mean:':<15}{', '.join(near)}", markup=False, soft_wrap=True)
    if long := price.long_context_buckets(cost, provider, model, usage, at=moment, tier=tier):
        sentence = f"The request is long, which changes the rate of {', '.join(long)} for all of its tokens."
        console.print(f"{'note:':<15}{sentence}", markup=False, soft_wrap=True)
    return cost.amount_usd is not None


def _vocabulary(ledger: Ledger, wanted: list[str]) -> Vocabulary:
    """Know the declared names; look into the ledger only for a name that nobody declared."""
    settings = load_settings({})
    dimensions = (*DIMENSIONS, *settings.extra_dimensions)
    declared = Vocabulary(dimensions, settings.aliases)
    if all(declared.key(name) is not None for name in wanted if name.strip()):
        return declared
    return Vocabulary(dimensions, settings.aliases, names_in(ledger))


def _print_report(result: Report, keys: list[Key], *, form: str, top: int) -> None:
    by = [key.name for key in keys]
    if form == "json":
        typer.echo(render.as_json(result.rows))
    elif form == "csv":
        typer.echo(render.as_csv(result.rows, by), nl=False)
    elif result.rows:
        console = Console(highlight=False)
        console.print(render.report_table(result.rows, by, top=top))
        console.print()
        sentences = render.total_sentences(total(result.rows))
        if "use" in by:
            sentences += render.use_sentences(result.rows)
        for sentence in (*sentences, *render.merged_sentences(result.merged)):
            console.print(sentence, markup=False, soft_wrap=True)
    if form != "table":
        for sentence in render.merged_sentences(result.merged):
            render.stderr().print(sentence, markup=False, style="yellow")


def _print_remarks(ledger: Ledger, result: Report, *, narrowed: bool) -> None:
    console = render.stderr()
    sentences = render.skipped_sentences(result.skipped)
    if result.repeated_lines:
        sentences.append(
            f"{render.plural(result.repeated_lines, 'line')} left out, with a call_id that was counted already; "
            "was a file copied within the ledger?"
        )
    sentences += [f"{path.name}: cannot be read ({reason})" for path, reason in ledger.unreadable.items()]
    if not ledger.files:
        sentences.append(f"{ledger.folder}: no calls. {_NOTHING}")
    elif not result.rows:
        sentences.append(
            f"{ledger.folder}: no call matches --since, --until and --where; widen them."
            if narrowed
            else f"{ledger.folder}: no calls. {_NOTHING}"
        )
    for sentence in sentences:
        console.print(sentence, markup=False, style="yellow")
