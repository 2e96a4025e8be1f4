"""What calls cost, by whatever they are grouped by: exact sums, and unknowns counted beside them."""

from __future__ import annotations

import os
from collections import Counter
from decimal import Context, Decimal, Inexact, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from farthing.envelope import SCHEMA_VERSION, Money
from farthing_reports.keys import OPERATIONS_SQL, Filter, Key, columns_of
from farthing_reports.ledger import text_literal
from farthing_reports.renames import AS_RECORDED, Merged, Renames

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from farthing_reports.ledger import Ledger

__all__ = ["MOMENT_SQL", "Report", "Row", "Skipped", "aggregate", "exact_sum", "names_in", "total"]

_EXACT: Final = Context(prec=100_000, Emax=999_999, Emin=-999_999, traps=[Inexact, InvalidOperation])
"""Adds without ever rounding; a digit lost would raise."""

# DuckDB adds DECIMAL(38, 20): 18 digits before the point. With 9 of them in each amount, 10^9 rows fit; an amount that
# has more digits on either side leaves the query as text and is added in Python.
_FITS: Final = r"-?[0-9]{1,9}(\.[0-9]{1,20})?"
_AMOUNT: Final = r"-?[0-9]{1,1000}(\.[0-9]{1,1000})?([eE][+-]?[0-9]{1,3})?"
_ZERO: Final = Decimal(0)
_SCHEMA_LENGTH: Final = 40

_BASE_COLUMNS: Final = {
    "schema": "VARCHAR",
    "call_id": "VARCHAR",
    "started_at": "VARCHAR",
    "usage": "STRUCT(input_tokens UBIGINT, output_tokens UBIGINT)",
    "cost": "STRUCT(amount_usd VARCHAR, status VARCHAR, saved_usd VARCHAR, estimated_usd VARCHAR)",
}
# A cast to TIMESTAMPTZ understands every offset and is three times as slow; the ledger writes Z.
MOMENT_SQL: Final = """CASE WHEN ends_with(started_at, 'Z') THEN try_cast(started_at AS TIMESTAMP)
    ELSE make_timestamp(epoch_us(try_cast(started_at AS TIMESTAMPTZ))) END"""


class Row(BaseModel):
    """One group of calls."""

    model_config = ConfigDict(frozen=True)

    dimensions: dict[str, str | None]
    """What the calls have in common; None where they have no value."""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost_usd: Money = _ZERO
    """The sum of the known costs; no estimate is in it."""
    unpriced_calls: int = 0
    """Calls whose cost is unknown, for whatever reason; `unreported_calls` are among them."""
    unreported_calls: int = 0
    """Calls whose usage never arrived."""
    estimated_calls: int = 0
    """Calls whose cost is an estimate: their usage never arrived, or their price is one."""
    estimated_usd: Money = _ZERO
    """The sum of the estimates."""
    cache_hits: int = 0
    saved_usd: Money = _ZERO
    """What the cache hits would have cost, as far as that is known."""

    def flat(self) -> dict[str, Any]:
        """Give the row as JSON values, the dimensions beside the figures."""
        return self.dimensions | self.model_dump(mode="json", exclude={"dimensions"})


class Skipped(BaseModel):
    """Lines of one file that are no calls of this schema."""

    model_config = ConfigDict(frozen=True)

    file: str
    damaged_lines: int = 0
    """Torn, corrupt, too long, or something else altogether."""
    torn: bool = False
    """The last line has no end: the process that wrote it died, or is writing it now."""
    other_schemas: dict[str, int] = Field(default_factory=dict[str, int])
    """Lines by the schema that they name."""


class Report(BaseModel):
    """The rows, the most expensive first, and what could not be read."""

    model_config = ConfigDict(frozen=True)

    rows: list[Row]
    skipped: list[Skipped]
    repeated_lines: int = 0
    """Lines with the `call_id` of another line: a file that was copied into the folder. Each call counts once."""
    merged: list[Merged] = Field(default_factory=list[Merged])
    """Recorded names whose calls stand under the name of today."""


def aggregate(
    ledger: Ledger,
    by: Sequence[Key],
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    filters: Sequence[Filter] = (),
    renames: Renames = AS_RECORDED,
) -> Report:
    """Add up the calls of a ledger in groups.

    Args:
        ledger: What to read; it is read once, in a stream.
        by: What the calls of a group have in common; empty gives one group.
        since: The first moment at which a call may have started, aware; None is the beginning.
        until: The moment before which it must have started, aware; None is the end.
        filters: All of them must hold.
        renames: Which names stand for one value; by default every name stands for itself.

    Raises:
        Nothing: what cannot be read is counted in `skipped`.
    """
    filters = renames.widened(filters)
    keys = [*by, *(each.key for each in filters)]
    columns = {"schema": "VARCHAR"} | columns_of(keys) | _BASE_COLUMNS
    sql, parameters = _query(by, since, until, filters)
    found, too_long = ledger.query(sql, columns, parameters)
    groups: dict[tuple[str | None, ...], Row] = {}
    damaged: dict[str, dict[str | None, int]] = {}
    merged: Counter[tuple[str, str, str]] = Counter()
    repeated = 0
    for file, problem, lines, *values in found:
        if file is not None:
            damaged.setdefault(file, {})[problem or None] = lines
            continue
        repeated += lines - values[len(by)]
        recorded = tuple(values[: len(by)])
        names = renames.current(by, recorded)
        group = _row(by, names, values[len(by) :])
        if names != recorded:
            _note_merged(merged, by, recorded, names, group.calls)
        groups[names] = _added(groups[names], group) if names in groups else group
    rows = [row for row in groups.values() if row.calls]
    rows.sort(key=lambda row: (-row.cost_usd, -row.calls, [(v is None, v or "") for v in row.dimensions.values()]))
    return Report(
        rows=rows,
        skipped=_skipped(ledger, damaged, too_long),
        repeated_lines=repeated,
        merged=[Merged(*names, calls=calls) for names, calls in sorted(merged.items())],
    )


def _note_merged(
    merged: Counter[tuple[str, str, str]],
    by: Sequence[Key],
    recorded: Sequence[str | None],
    names: Sequence[str | None],
    calls: int,
) -> None:
    for key, old, new in zip(by, recorded, names, strict=True):
        if old is not None and new is not None and old != new:
            merged[key.name, old, new] += calls


def total(rows: Iterable[Row]) -> Row:
    """Add rows up, to the last digit."""
    whole = Row(dimensions={})
    for row in rows:
        whole = _added(whole, row)
    return whole


def names_in(ledger: Ledger) -> set[str]:
    """Give the dimensions and details that occur in a ledger, as `attribution.<name>` and `details.<name>`."""
    columns = {"attribution": "MAP(VARCHAR, VARCHAR)", "details": "MAP(VARCHAR, VARCHAR)"}
    rows, _ = ledger.query(
        """SELECT DISTINCT unnest(list_concat(
            [concat('attribution.', k) FOR k IN map_keys(attribution)],
            [concat('details.', k) FOR k IN map_keys(details)])) FROM lines""",
        columns,
    )
    return {str(name) for (name,) in rows}


def exact_sum(amounts: Iterable[Decimal]) -> Decimal:
    """Add amounts without rounding."""
    whole = _ZERO
    for amount in amounts:
        whole = _EXACT.add(whole, amount)
    return whole


def _query(
    by: Sequence[Key], since: datetime | None, until: datetime | None, filters: Sequence[Filter]
) -> tuple[str, list[object]]:
    """Build the one query: groups of calls, amounts that DuckDB could not add exactly, and damage by file.

    A call that stands there twice is taken once; of a million calls that costs a fifth more time and 200 MB, and beyond
    the memory limit DuckDB spills.
    """
    parameters: list[object] = []
    conditions: list[str] = []
    for bound, sign in ((since, ">="), (until, "<")):
        if bound is not None:
            parameters.append(int(bound.timestamp()) * 1_000_000 + bound.microsecond)
            conditions.append(f"moment {sign} make_timestamp(${len(parameters)}::BIGINT)")
    conditions += [_condition(each, parameters) for each in filters]
    wanted = " AND ".join(f"({condition})" for condition in conditions) or "true"
    keys = [f"k{index}" for index in range(len(by))]
    over_operations = any(key.over_operations for key in (*by, *(each.key for each in filters)))
    settled = OPERATIONS_SQL if over_operations else ", settled AS (SELECT * FROM judged)"
    chosen = "".join(f", CASE WHEN sound THEN {key.sql} END AS {name}" for key, name in zip(by, keys, strict=True))
    listed = "".join(f", {name}" for name in keys)
    sql = f"""
    , timed AS (SELECT *, {MOMENT_SQL} AS moment FROM lines)
    , judged AS (SELECT *, coalesce(schema = {text_literal(SCHEMA_VERSION)} AND call_id IS NOT NULL
        AND moment IS NOT NULL AND cost.status IS NOT NULL
        AND {_is_amount("cost.amount_usd")} AND {_is_amount("cost.saved_usd")} AND {_is_amount("cost.estimated_usd")},
        false) AS sound FROM timed)
    {settled}
    , chosen AS (SELECT CASE WHEN cost.status <> 'estimated' THEN cost.amount_usd END AS amount,
        coalesce(cost.estimated_usd, CASE WHEN cost.status = 'estimated' THEN cost.amount_usd END) AS estimate,
        cost.saved_usd AS saved, cost.status AS status, usage, sound,
        CASE WHEN NOT sound THEN filename END AS file,
        CASE WHEN NOT sound AND schema <> {text_literal(SCHEMA_VERSION)} THEN left(schema, {_SCHEMA_LENGTH}) END
        AS problem, CASE WHEN sound THEN call_id END AS id
        {chosen} FROM settled WHERE NOT sound OR ({wanted}))
    , once AS (SELECT file, problem, count(*) AS copies,
        unnest(first(struct_pack(amount, estimate, saved, status, usage, sound{listed})))
        FROM chosen GROUP BY id, file, problem)
    , split AS (SELECT *,
        CASE WHEN sound AND NOT regexp_full_match(amount, '{_FITS}') THEN amount END AS odd_amount,
        CASE WHEN sound AND NOT regexp_full_match(estimate, '{_FITS}') THEN estimate END AS odd_estimate,
        CASE WHEN sound AND NOT regexp_full_match(saved, '{_FITS}') THEN saved END AS odd_saved FROM once)
    SELECT file, problem, sum(copies)::BIGINT{listed}, count(*), sum(usage.input_tokens), sum(usage.output_tokens),
        sum(CASE WHEN sound AND odd_amount IS NULL THEN amount::DECIMAL(38, 20) END), odd_amount,
        sum(CASE WHEN sound AND odd_estimate IS NULL THEN estimate::DECIMAL(38, 20) END), odd_estimate,
        sum(CASE WHEN sound AND odd_saved IS NULL THEN saved::DECIMAL(38, 20) END), odd_saved,
        count(*) FILTER (WHERE amount IS NULL AND estimate IS NULL), count(*) FILTER (WHERE status = 'unreported'),
        count(*) FILTER (WHERE estimate IS NOT NULL), count(*) FILTER (WHERE status = 'cache_hit')
    FROM split GROUP BY file, problem{listed}, odd_amount, odd_estimate, odd_saved
    """  # noqa: S608 - names are quoted, values are parameters
    return sql, parameters


def _is_amount(column: str) -> str:
    return f"({column} IS NULL OR regexp_full_match({column}, '{_AMOUNT}'))"


def _condition(each: Filter, parameters: list[object]) -> str:
    parts: list[str] = []
    for value in each.values:
        if value is None:
            parts.append(f"({each.key.sql}) IS NULL")
        else:
            parameters.append(value)
            parts.append(f"({each.key.sql}) IS NOT DISTINCT FROM ${len(parameters)}::VARCHAR")
    joined = " OR ".join(parts)
    return f"NOT ({joined})" if each.negated else joined


def _row(by: Sequence[Key], names: Sequence[str | None], figures: Sequence[Any]) -> Row:
    calls, inputs, outputs, amount, odd_amount, estimate, odd_estimate, saved, odd_saved, *counts = figures
    unknown, unreported, estimated, hits = counts
    return Row(
        dimensions={key.name: name for key, name in zip(by, names, strict=True)},
        calls=calls,
        input_tokens=inputs or 0,
        output_tokens=outputs or 0,
        cost_usd=_amount(amount, odd_amount, calls),
        unpriced_calls=unknown,
        unreported_calls=unreported,
        estimated_calls=estimated,
        estimated_usd=_amount(estimate, odd_estimate, calls),
        cache_hits=hits,
        saved_usd=_amount(saved, odd_saved, calls),
    )


def _amount(known: Decimal | None, odd: str | None, calls: int) -> Decimal:
    if odd is not None:
        return _normal(_EXACT.multiply(Decimal(odd), Decimal(calls)))
    return _normal(known or _ZERO)


def _normal(amount: Decimal) -> Decimal:
    """Drop the zeros that DECIMAL(38, 20) appends; the value stays."""
    return amount.normalize(_EXACT) if amount else _ZERO


def _added(first: Row, second: Row) -> Row:
    return Row(
        dimensions=first.dimensions,
        calls=first.calls + second.calls,
        input_tokens=first.input_tokens + second.input_tokens,
        output_tokens=first.output_tokens + second.output_tokens,
        cost_usd=_normal(_EXACT.add(first.cost_usd, second.cost_usd)),
        unpriced_calls=first.unpriced_calls + second.unpriced_calls,
        unreported_calls=first.unreported_calls + second.unreported_calls,
        estimated_calls=first.estimated_calls + second.estimated_calls,
        estimated_usd=_normal(_EXACT.add(first.estimated_usd, second.estimated_usd)),
        cache_hits=first.cache_hits + second.cache_hits,
        saved_usd=_normal(_EXACT.add(first.saved_usd, second.saved_usd)),
    )


def _skipped(ledger: Ledger, damaged: dict[str, dict[str | None, int]], too_long: dict[str, int]) -> list[Skipped]:
    by_name = {Path(file).name: counts for file, counts in damaged.items()}
    return [
        Skipped(
            file=path.name,
            damaged_lines=by_name.get(path.name, {}).get(None, 0) + too_long.get(path.name, 0),
            torn=_is_torn(path),
            other_schemas={name: count for name, count in by_name.get(path.name, {}).items() if name},
        )
        for path in ledger.files
        if path.name in by_name or path.name in too_long
    ]


def _is_torn(path: Path) -> bool:
    """Say whether the last line has no end."""
    if path.suffix == ".parquet":
        return False
    with path.open("rb") as file:
        if file.seek(0, os.SEEK_END) == 0:
            return False
        file.seek(-1, os.SEEK_END)
        return file.read(1) != b"\n"
