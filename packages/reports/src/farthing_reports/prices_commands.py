"""What `farthing prices ...` and `farthing reprice` do once their options are parsed."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import typer
from rich.console import Console

from farthing.errors import PriceDataError
from farthing.pricing.files import bundled_catalog, make_book
from farthing_reports import price_tables
from farthing_reports.faults import CommandError
from farthing_reports.in_force import InForce, prices_in_force, prices_settings
from farthing_reports.ledger import PATTERNS, Ledger, find_ledger
from farthing_reports.moments import parse_moment
from farthing_reports.price_changes import parse_bound, price_changes
from farthing_reports.price_files import (
    check_pin,
    fetch_prices,
    install_prices,
    read_prices,
    remove_installed,
    write_whole,
)
from farthing_reports.price_status import price_status, released_on
from farthing_reports.render import plural, stderr
from farthing_reports.reprice import reprice, writer_for

if TYPE_CHECKING:
    from collections.abc import Generator
    from datetime import datetime
    from decimal import Decimal
    from typing import IO

    from farthing.pricing import PriceBook
    from farthing_reports.price_changes import PriceChanges
    from farthing_reports.price_files import PriceFile
    from farthing_reports.reprice import Repricing

__all__ = ["run_pull", "run_reprice", "run_reset", "run_status", "run_use"]

_REACH: Final = "Processes of this user take it over within seconds; for other users and machines set prices.file."


def run_status(*, form: str, now: datetime) -> None:
    """Print which prices are in force.

    Raises:
        FarthingError: The configuration or the price data cannot be used.
    """
    status = price_status(prices_in_force(), now=now)
    if form == "json":
        typer.echo(status.model_dump_json(indent=2))
        return
    console = Console(highlight=False)
    for label, text in price_tables.status_lines(status):
        console.print(f"{label + ':':<13}{text}", markup=False, soft_wrap=True)
    if status.overrides:
        console.print()
        console.print(price_tables.overrides_table(status))
    if status.warnings:
        console.print()
    for sentence in status.warnings:
        console.print(f"warning: {sentence}", markup=False, soft_wrap=True, style="yellow")


def run_pull(source: str, *, out: Path, sha256: str | None) -> None:
    """Fetch price data, check it, and write it to a file; nothing is put in force.

    Raises:
        FarthingError: It cannot be fetched or trusted, or the file cannot be written.
    """
    settings, _ = prices_settings()
    if settings.file is not None and _same(settings.file.expanduser(), out):
        raise CommandError("--out: is the price file in force; write another file, then: farthing prices use FILE")
    found = fetch_prices(source, sha256=sha256)
    write_whole(out, found.data)
    typer.echo(f"{out}: {_size(found)}")
    typer.echo(f"SHA-256 {found.sha256}")
    typer.echo(f"Put it in force with: farthing prices use {out}")


def run_use(file: Path, *, accept: bool, bound: str, now: datetime) -> None:
    """Compare a price file with the book in force, and put it in force.

    Raises:
        FarthingError: The file cannot be trusted, or it changes more than may pass without consent.
    """
    share = parse_bound(bound)
    new = read_prices(file)
    prices = _standing()
    check_pin(new, prices.settings)
    changes = price_changes(prices.book.catalog, new.catalog, at=now)
    _print_changes(changes, f"{file}: {_size(new)}")
    objections = _objections(changes, prices.book, new, share)
    if objections:
        rates = changes.needing_consent(share)
        if changes.lost or rates:
            Console(stderr=True, highlight=False).print(price_tables.changes_table(changes, rates))
        if not accept:
            raise CommandError(
                f"{file}: {'; '.join(objections)}. Nothing was changed; to take it all the same: --accept"
            )
        stderr().print(f"accepted: {'; '.join(objections)}", markup=False, style="yellow")
    target = install_prices(new, prices)
    typer.echo(f"In force: {target}")
    typer.echo(f"SHA-256 {new.sha256}")
    typer.echo(_REACH)


def run_reset() -> None:
    """Go back to the prices that ship with farthing.

    Raises:
        FarthingError: The settings name a price file, or the installed one cannot be removed.
    """
    settings, origin = prices_settings()
    removed = remove_installed()
    if origin == "configured":
        raise CommandError(
            f"prices.file: names {settings.file}, which stays in force; remove the key from your settings"
        )
    typer.echo(
        "In force: the prices bundled with farthing." if removed else "Nothing was installed: the bundled prices."
    )


def run_reprice(
    *, since: str | None, until: str | None, prices: Path | None, ledger: Path | None, out: str, now: datetime
) -> None:
    """Price a range of the ledger anew, write it call by call, and print the sums.

    Raises:
        FarthingError: An option, the configuration, the price data or the ledger cannot be used.
    """
    start = None if since is None else parse_moment(since, now=now, option="--since")
    end = None if until is None else parse_moment(until, now=now, option="--until")
    if start is not None and end is not None and start >= end:
        raise CommandError(f"--until: {until!r} is not after --since {since!r}, so no call can match; swap them")
    kind = _kind(out)
    found = find_ledger(ledger)
    book = _book(prices)
    with _output(out, found) as file:
        result = reprice(found, book, writer_for(kind, file), since=start, until=end)
    _print_repricing(result, found, book, out=out)


def _standing() -> InForce:
    """Give the book to compare with: where the installed or configured file is broken, the bundled one."""
    try:
        return prices_in_force()
    except PriceDataError as error:
        settings, origin = prices_settings()
        stderr().print(f"{error}; comparing with the bundled prices", markup=False, style="yellow")
        return InForce(settings, origin, make_book(None, bundled_catalog()))


def _objections(changes: PriceChanges, book: PriceBook, new: PriceFile, bound: Decimal) -> list[str]:
    """Say what a human has to agree to."""
    found: list[str] = []
    if changes.lost:
        found.append(f"{plural(len(changes.lost), 'model')} of {changes.old_models:,} would lose the price")
    rates = changes.needing_consent(bound)
    gone = sum(change.new_usd is None for change in rates)
    if gone:
        found.append(f"{plural(gone, 'rate')} would be lost")
    if len(rates) > gone:
        found.append(
            f"{plural(len(rates) - gone, 'rate')} would move by more than {bound * 100:f}%".replace(".00%", "%")
        )
    released = released_on(new.catalog)
    before = released_on(book.catalog)
    if released is not None and before is not None and released < before:
        found.append(f"its data is of {released}, older than that in force, of {before}")
    return found


def _print_changes(changes: PriceChanges, title: str) -> None:
    typer.echo(title)
    moved = sum(change.new_usd is not None for change in changes.rates)
    typer.echo(
        f"Against the prices in force: {plural(changes.added, 'model')} more, {len(changes.lost):,} fewer, "
        f"{plural(moved, 'rate')} changed, {len(changes.rates) - moved:,} lost."
    )


def _size(file: PriceFile) -> str:
    models = sum(provider.count for provider in file.catalog.providers.values())
    day = released_on(file.catalog)
    return (
        f"{plural(models, 'model')} of {plural(len(file.catalog.providers), 'provider')}, "
        f"{'of an unknown day' if day is None else f'of {day}'}, {len(file.data):,} bytes"
    )


def _book(prices: Path | None) -> PriceBook:
    """Give the book to price with: the user's overrides hold in any case."""
    if prices is None:
        return prices_in_force().book
    settings, _ = prices_settings()
    return make_book(settings.model_copy(update={"file": prices, "sha256": None}))


def _kind(out: str) -> Literal["jsonl", "csv"]:
    suffix = Path(out).suffix.lower()
    if out == "-" or suffix == ".jsonl":
        return "jsonl"
    if suffix == ".csv":
        return "csv"
    raise CommandError(f"--out: {out!r} ends in neither .jsonl nor .csv, and is not - for the standard output")


@contextmanager
def _output(out: str, ledger: Ledger) -> Generator[IO[str]]:
    """Open the output: a file appears once it is whole, and never in place of a ledger's."""
    if out == "-":
        yield sys.stdout
        sys.stdout.flush()
        return
    path = Path(out).expanduser()
    folder = ledger.folder if ledger.folder.is_dir() else ledger.folder.parent
    in_ledger = _same(path.parent, folder) and any(path.match(pattern) for pattern in PATTERNS)
    if in_ledger or any(_same(path, file) for file in ledger.files):
        raise CommandError(f"--out: {out!r} would be read as a part of the ledger, which is never rewritten; rename it")
    try:
        with tempfile.NamedTemporaryFile(
            "w", encoding="utf-8", newline="", dir=path.parent, prefix=f".{path.name}-", delete=False
        ) as file:
            temporary = Path(file.name)
            try:
                yield file
            except BaseException:
                temporary.unlink(missing_ok=True)
                raise
        temporary.replace(path)
    except OSError as error:
        raise CommandError(f"--out: {out!r} cannot be written ({error.strerror or error})") from None


def _print_repricing(result: Repricing, ledger: Ledger, book: PriceBook, *, out: str) -> None:
    console = stderr() if out == "-" else Console(highlight=False)
    if result.models:
        console.print(price_tables.reprice_table(result))
        console.print()
        for sentence in price_tables.reprice_sentences(result):
            console.print(sentence, markup=False, soft_wrap=True)
        console.print(f"Prices: {book.data_source} {book.data_version}", markup=False, soft_wrap=True)
    else:
        stderr().print(f"{ledger.folder}: no call of that time; nothing to price.", markup=False, style="yellow")
    remarks = [f"{path.name}: cannot be read ({reason})" for path, reason in ledger.unreadable.items()]
    if result.damaged_lines:
        remarks.append(f"{plural(result.damaged_lines, 'line')} skipped: damaged, or of another schema")
    if result.repeated_lines:
        remarks.append(f"{plural(result.repeated_lines, 'line')} left out, with a call_id that was there already")
    for sentence in remarks:
        stderr().print(sentence, markup=False, style="yellow")


def _same(first: Path, second: Path) -> bool:
    return first.expanduser().resolve() == second.expanduser().resolve()
