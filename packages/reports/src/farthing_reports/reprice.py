"""A range of the ledger, priced anew: call by call, in a stream, beside what was recorded and never over it."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from datetime import datetime  # noqa: TC003 - pydantic reads it at run time
from decimal import Context, Decimal, Inexact, InvalidOperation
from typing import IO, TYPE_CHECKING, Annotated, Final, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from farthing.envelope import SCHEMA_VERSION, Cost, CostStatus, Moment, Usage
from farthing_reports.ledger import LONGEST_LINE_BYTES, compacted_lines
from farthing_reports.progress import advancing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from farthing.pricing import PriceBook
    from farthing_reports.ledger import Ledger

__all__ = ["FIELDS", "ModelDifference", "Repriced", "Repricing", "lines_of", "reprice", "writer_for"]

_EXACT: Final = Context(prec=100_000, Emax=999_999, Emin=-999_999, traps=[Inexact, InvalidOperation])
_ZERO: Final = Decimal(0)
_KEPT: Final = frozenset({"cache_hit", "not_billed", "unreported"})
"""Statuses that no price changes: nothing was bought, or nobody knows how much."""


def _bounded(amount: Decimal | None) -> Decimal | None:
    if amount is not None and abs(amount.adjusted()) > 1_000:  # noqa: PLR2004 - no money has a thousand digits
        message = "an amount of absurd size"
        raise ValueError(message)
    return amount


_Amount = Annotated[Decimal | None, Field(allow_inf_nan=False), AfterValidator(_bounded)]


class _Provenance(BaseModel):
    tier: str | None = None


class _Cost(BaseModel):
    amount_usd: _Amount
    status: CostStatus
    reported_usd: _Amount = None
    provenance: _Provenance | None = None


class _Line(BaseModel):
    """What of a line decides its price."""

    model_config = ConfigDict(frozen=True)

    schema_version: Literal["farthing.call/1"] = Field(alias="schema")
    call_id: str
    started_at: Moment
    provider: str | None = None
    request_model: str | None = None
    response_model: str | None = None
    service_tier: str | None = None
    price_context: dict[str, str] = {}
    usage: Usage | None = None
    cost: _Cost


@dataclass(frozen=True, slots=True)
class Repriced:
    """One call under both price books."""

    call_id: str
    started_at: datetime
    provider: str | None
    model: str | None
    """The one that answered, else the one that was asked for."""
    old_usd: Decimal | None
    new_usd: Decimal | None
    old_status: str
    new_status: str
    new_source: str | None
    new_flags: tuple[str, ...]

    @property
    def difference_usd(self) -> Decimal | None:
        """New less old; None where either is unknown."""
        if self.old_usd is None or self.new_usd is None:
            return None
        return _tidy(_EXACT.subtract(self.new_usd, self.old_usd))

    def flat(self) -> dict[str, str | None]:
        """Give the record as it is written; money is an exact decimal string."""
        return {
            "call_id": self.call_id,
            "started_at": self.started_at.isoformat().replace("+00:00", "Z"),
            "provider": self.provider,
            "model": self.model,
            "old_amount_usd": _plain(self.old_usd),
            "new_amount_usd": _plain(self.new_usd),
            "difference_usd": _plain(self.difference_usd),
            "old_status": self.old_status,
            "new_status": self.new_status,
            "new_source": self.new_source,
            "new_flags": " ".join(self.new_flags),
        }


FIELDS: Final = (
    "call_id",
    "started_at",
    "provider",
    "model",
    "old_amount_usd",
    "new_amount_usd",
    "difference_usd",
    "old_status",
    "new_status",
    "new_source",
    "new_flags",
)
"""The columns of the output."""


@dataclass(slots=True)
class ModelDifference:
    """What changes for the calls of one model."""

    calls: int = 0
    old_usd: Decimal = _ZERO
    """The sum of the known amounts, as for `new_usd`."""
    new_usd: Decimal = _ZERO
    old_unknown: int = 0
    new_unknown: int = 0
    became_priced: int = 0
    became_unpriced: int = 0

    @property
    def difference_usd(self) -> Decimal:
        """New sum less old sum, calls that became priced or unpriced among them."""
        return _tidy(_EXACT.subtract(self.new_usd, self.old_usd))

    def add(self, one: Repriced) -> None:
        """Count a call in."""
        self.calls += 1
        self.old_usd = _EXACT.add(self.old_usd, one.old_usd or _ZERO)
        self.new_usd = _EXACT.add(self.new_usd, one.new_usd or _ZERO)
        self.old_unknown += one.old_usd is None
        self.new_unknown += one.new_usd is None
        self.became_priced += one.old_usd is None and one.new_usd is not None
        self.became_unpriced += one.old_usd is not None and one.new_usd is None

    def merge(self, other: ModelDifference) -> None:
        """Add another one's figures."""
        self.calls += other.calls
        self.old_usd = _EXACT.add(self.old_usd, other.old_usd)
        self.new_usd = _EXACT.add(self.new_usd, other.new_usd)
        self.old_unknown += other.old_unknown
        self.new_unknown += other.new_unknown
        self.became_priced += other.became_priced
        self.became_unpriced += other.became_unpriced


@dataclass(slots=True)
class Repricing:
    """The sums of a run."""

    models: dict[str | None, ModelDifference]
    damaged_lines: int = 0
    repeated_lines: int = 0

    def total(self) -> ModelDifference:
        """Add all models up."""
        whole = ModelDifference()
        for each in self.models.values():
            whole.merge(each)
        whole.old_usd, whole.new_usd = _tidy(whole.old_usd), _tidy(whole.new_usd)
        return whole


def reprice(
    ledger: Ledger,
    book: PriceBook,
    write: Callable[[Repriced], None],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Repricing:
    """Price the calls of a ledger with a book, each at its own moment, and hand them out one by one.

    Args:
        ledger: What to read; it is not changed.
        book: The prices.
        write: Takes each call, in the order of the files.
        since: The first moment at which a call may have started, aware; None is the beginning.
        until: The moment before which it must have started, aware; None is the end.

    Raises:
        Nothing of its own: what cannot be read is counted.
    """
    result = Repricing({})
    repeated = _repeated_ids(ledger)
    seen: set[str] = set()
    with advancing(f"pricing {ledger.size_bytes / 1e6:,.0f} MB", ledger.size_bytes) as advance:
        for line in lines_of(ledger.files, advance):
            call = _call(line)
            if call is None:
                result.damaged_lines += bool(line.strip())
                continue
            if (since is not None and call.started_at < since) or (until is not None and call.started_at >= until):
                continue
            if call.call_id in repeated:
                if call.call_id in seen:
                    result.repeated_lines += 1
                    continue
                seen.add(call.call_id)
            one = _repriced(call, book)
            result.models.setdefault(one.model, ModelDifference()).add(one)
            write(one)
    return result


def lines_of(files: Iterable[Path], advance: Callable[[int], None]) -> Iterator[bytes]:
    """Give the lines of files, one after the other; of one that is too long to be a call, an impossible part."""
    for path in files:
        if path.suffix == ".parquet":
            yield from compacted_lines(path)
            advance(path.stat().st_size)
            continue
        with path.open("rb") as file:
            while line := file.readline(LONGEST_LINE_BYTES):
                advance(len(line))
                cut = len(line) == LONGEST_LINE_BYTES and not line.endswith(b"\n")
                if cut:
                    piece = line
                    while piece and not piece.endswith(b"\n"):
                        piece = file.readline(LONGEST_LINE_BYTES)
                        advance(len(piece))
                yield b"too long" if cut else line


def writer_for(kind: Literal["jsonl", "csv"], file: IO[str]) -> Callable[[Repriced], None]:
    """Give the function that writes one call; for CSV the header is written at once."""
    if kind == "csv":
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(FIELDS)

        def write_row(one: Repriced) -> None:
            writer.writerow(one.flat().values())

        return write_row

    def write(one: Repriced) -> None:
        file.write(json.dumps(one.flat(), ensure_ascii=False) + "\n")

    return write


def _repeated_ids(ledger: Ledger) -> set[str]:
    """Find the ids that stand there more than once, so that only these need to be remembered."""
    rows, _ = ledger.query(
        "SELECT call_id FROM lines WHERE call_id IS NOT NULL GROUP BY call_id HAVING count(*) > 1",
        {"call_id": "VARCHAR"},
    )
    return {str(name) for (name,) in rows}


def _call(line: bytes) -> _Line | None:
    if SCHEMA_VERSION.encode() not in line:
        return None
    try:
        return _Line.model_validate_json(line)
    except ValidationError:
        return None


def _repriced(call: _Line, book: PriceBook) -> Repriced:
    old = call.cost
    if call.usage is None or old.status in _KEPT:
        amount, status, source, flags = old.amount_usd, old.status, None, ("kept",)
    else:
        new = _price(call, call.usage, book)
        amount, status, source, flags = new.amount_usd, new.status, new.source, new.flags
    return Repriced(
        call_id=call.call_id,
        started_at=call.started_at,
        provider=call.provider,
        model=call.response_model or call.request_model,
        old_usd=old.amount_usd,
        new_usd=amount,
        old_status=old.status,
        new_status=status,
        new_source=source,
        new_flags=flags,
    )


def _price(call: _Line, usage: Usage, book: PriceBook) -> Cost:
    """Price as farthing does when a call ends: by the model that answered, else by the one that was asked for."""
    old = call.cost
    tier = (old.provenance or _Provenance()).tier or call.service_tier
    cost: Cost | None = None
    for model in dict.fromkeys((call.response_model, call.request_model)):
        if model is None:
            continue
        cost = book.price(
            call.provider,
            model,
            usage,
            at=call.started_at,
            tier=tier,
            context=call.price_context or None,
            reported_usd=old.reported_usd,
        )
        if cost.amount_usd is not None or "context-not-priced" in cost.flags:
            break
    return cost or Cost(amount_usd=None, status="unpriced", flags=("no-model-name",))


def _tidy(amount: Decimal) -> Decimal:
    """Drop idle zeros; the value stays."""
    return amount.normalize(_EXACT) if amount else _ZERO


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount, "f")
