"""Finished segments of the ledger become one Parquet file a day, a tenth of their size, without losing a byte.

A row holds the line exactly as it was written, beside columns for those who query the file with other tools. Segments
are deleted only after the file has been read back and every line of it compared. Between the two a journal says which
segments the file stands for, so that whoever is interrupted, or reads meanwhile, counts no call twice.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC
from typing import TYPE_CHECKING, Final

from farthing.files import lock_file, open_regular
from farthing.sinks.ledger import LEDGER_NAME
from farthing_reports.faults import CommandError
from farthing_reports.ledger import JOURNALS, LONGEST_LINE_BYTES, connection, text_literal

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    import duckdb

__all__ = ["Compaction", "compact"]

_FITS: Final = r"-?[0-9]{1,18}(\.[0-9]{1,20})?"
_SEPARATOR: Final = "\x01"
"""In no JSON text: control characters are escaped there."""
_ROWS: Final = 10_000


@dataclass(slots=True)
class Compaction:
    """What was done."""

    files: int = 0
    """Parquet files written."""
    segments: int = 0
    """Segments that they stand for, and that are gone."""
    lines: int = 0
    bytes_before: int = 0
    bytes_after: int = 0
    busy: int = 0
    """Segments that a process still writes to."""
    left: dict[str, str] = field(default_factory=dict[str, str])
    """Segments that stay as they are, with the reason."""


def compact(folder: Path, *, now: datetime, today_too: bool = False) -> Compaction:
    """Compact what is finished, a day at a time.

    Args:
        folder: The ledger's.
        now: Aware.
        today_too: Whether finished segments of today are compacted too; a day then has more than one file.

    Raises:
        CommandError: Somebody else compacts this folder just now, or it cannot be written.
    """
    done = Compaction()
    today = now.astimezone(UTC).strftime("%Y-%m-%d")
    try:
        guard = os.open(folder / ".compact.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandError(f"{folder}: cannot be compacted ({error.strerror}); mend its permissions") from None
    try:
        if not lock_file(guard):
            raise CommandError(f"{folder}: another farthing ledger compact is at work; wait for it")
        _finish_interrupted(folder)
        days: dict[str, list[Path]] = {}
        for path in sorted(folder.glob("calls-*.jsonl")):
            match = LEDGER_NAME.fullmatch(path.name)
            if match is not None and (match[1] < today or (today_too and match[1] == today)):
                days.setdefault(match[1], []).append(path)
        for day, paths in days.items():
            _compact_day(folder, day, paths, done)
    finally:
        os.close(guard)
    return done


def _compact_day(folder: Path, day: str, paths: Iterable[Path], done: Compaction) -> None:
    locks: list[int] = []
    try:
        sound: dict[Path, tuple[str, int]] = {}
        for path in paths:
            try:
                lock = _locked(path)
                if lock is None:
                    done.busy += 1
                    continue
                locks.append(lock)
                sound[path] = _digest_of_file(path)
            except (ValueError, OSError) as error:
                done.left[path.name] = getattr(error, "strerror", None) or str(error)
        if sound:
            _replace(folder, day, sound, done)
    finally:
        for lock in locks:
            os.close(lock)


def _replace(folder: Path, day: str, sound: dict[Path, tuple[str, int]], done: Compaction) -> None:
    names = [path.name for path in sound]
    key = hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]
    target = folder / f"calls-{day}-{key}.parquet"
    draft = folder / f".calls-{day}-{key}.tmp"
    journal = folder / f".compact-{key}.json"
    draft.unlink(missing_ok=True)
    os.close(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    with connection() as database:
        _write(database, sound, draft)
        for path, (digest, lines) in sound.items():
            if _digest_of_rows(database, draft, path.name) != (digest, lines):
                draft.unlink()
                done.left[path.name] = "reads back differently; nothing was deleted"
                return
    draft.chmod(0o600)
    _sync(draft)
    descriptor = os.open(journal, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump({"target": target.name, "segments": names}, file)
        file.flush()
        os.fsync(file.fileno())
    draft.rename(target)
    done.bytes_before += sum(path.stat().st_size for path in sound)
    done.bytes_after += target.stat().st_size
    _delete(folder, journal, names)
    done.files += 1
    done.segments += len(sound)
    done.lines += sum(lines for _, lines in sound.values())


def _write(database: duckdb.DuckDBPyConnection, sound: dict[Path, tuple[str, int]], draft: Path) -> None:
    database.execute(
        "SET preserve_insertion_order = true; CREATE TABLE rows (segment VARCHAR, number BIGINT, line VARCHAR)"
    )
    for path in sound:
        database.execute(
            f"""INSERT INTO rows SELECT {text_literal(path.name)}, row_number() OVER (), line FROM read_csv(
            {text_literal(str(path.absolute()))}, columns = {{'line': 'VARCHAR'}}, header = false, auto_detect = false,
            delim = {text_literal(_SEPARATOR)}, quote = '', escape = '', new_line = '\\n', strict_mode = false,
            parallel = false, max_line_size = {LONGEST_LINE_BYTES}, buffer_size = {4 * LONGEST_LINE_BYTES})"""  # noqa: S608
        )
    database.execute(
        f"""COPY (
        WITH valid AS (SELECT *, CASE WHEN json_valid(line) THEN line::JSON END AS call FROM rows),
        told AS (SELECT *, call->'cost'->>'amount_usd' AS amount FROM valid)
        SELECT segment, number, line,
            call->>'call_id' AS call_id,
            make_timestamp(epoch_us(try_cast(call->>'started_at' AS TIMESTAMPTZ))) AS started_at,
            call->'attribution'->>'feature' AS feature, call->'attribution'->>'team' AS team,
            call->'attribution'->>'tenant' AS tenant, call->>'provider' AS provider,
            call->>'request_model' AS request_model,
            try_cast(call->'usage'->>'input_tokens' AS UBIGINT) AS input_tokens,
            try_cast(call->'usage'->>'output_tokens' AS UBIGINT) AS output_tokens,
            call->'cost'->>'status' AS cost_status,
            CASE WHEN regexp_full_match(amount, '{_FITS}') THEN amount::DECIMAL(38, 20) END AS amount_usd
        FROM told ORDER BY segment, number
        ) TO {text_literal(str(draft.absolute()))} (FORMAT parquet, COMPRESSION zstd)"""  # noqa: S608 - all parts are quoted
    )


def _digest_of_file(path: Path) -> tuple[str, int]:
    """Digest the lines of a segment, and refuse what a Parquet file could not hold byte by byte."""
    digest, lines = hashlib.sha256(), 0
    with path.open("rb") as file:
        while line := file.readline(LONGEST_LINE_BYTES):
            text = line.rstrip(b"\n")
            if len(line) >= LONGEST_LINE_BYTES or b"\0" in text or b"\x01" in text or b"\r" in text or not text:
                raise ValueError("has lines that are no JSON; look into it, and remove it if it is of no use")
            try:
                text.decode()
            except UnicodeDecodeError:
                raise ValueError("has lines that are no text; look into it, and remove it if it is of no use") from None
            digest.update(text + b"\n")
            lines += 1
    return digest.hexdigest(), lines


def _digest_of_rows(database: duckdb.DuckDBPyConnection, draft: Path, segment: str) -> tuple[str, int]:
    digest, lines = hashlib.sha256(), 0
    found = database.execute(
        f"SELECT line FROM read_parquet({text_literal(str(draft.absolute()))}) WHERE segment = ? ORDER BY number",  # noqa: S608
        [segment],
    )
    while rows := found.fetchmany(_ROWS):
        for (line,) in rows:
            digest.update(str(line).encode() + b"\n")
        lines += len(rows)
    return digest.hexdigest(), lines


def _finish_interrupted(folder: Path) -> None:
    """Do what was left undone: with the Parquet file in place, delete; without, forget the plan."""
    for journal in folder.glob(JOURNALS):
        try:
            told = json.loads(journal.read_text())
            target, names = str(told["target"]), [str(name) for name in told["segments"]]
        except (OSError, ValueError, KeyError, TypeError):
            target, names = "", []
        wanted = [name for name in names if LEDGER_NAME.fullmatch(name)]
        if LEDGER_NAME.fullmatch(target) and (folder / target).is_file():
            _delete(folder, journal, wanted)
        else:
            journal.unlink(missing_ok=True)
    for draft in folder.glob(".calls-*.tmp"):
        draft.unlink(missing_ok=True)


def _delete(folder: Path, journal: Path, names: Iterable[str]) -> None:
    _sync(folder)
    for name in names:
        (folder / name).unlink(missing_ok=True)
    _sync(folder)
    journal.unlink(missing_ok=True)


def _locked(path: Path) -> int | None:
    """Lock a segment whose process is done with it."""
    descriptor = open_regular(path, os.O_RDONLY)
    with suppress(OSError):
        if lock_file(descriptor):
            return descriptor
    os.close(descriptor)
    return None


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
