"""The ledger as DuckDB sees it: JSON lines and compacted days, read in one streaming pass, whatever a crash left."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import duckdb

from farthing.settings import load_settings
from farthing_reports.faults import CommandError
from farthing_reports.progress import watched

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

__all__ = [
    "JOURNALS",
    "PATTERNS",
    "Ledger",
    "compacted_lines",
    "connection",
    "find_ledger",
    "ledger_location",
    "quoted",
    "text_literal",
]

PATTERNS: Final = ("calls-*.jsonl", "calls-*.parquet")
JOURNALS: Final = ".compact-*.json"
"""Each names a Parquet file and the segments that it stands for, while both are there."""
LONGEST_LINE_BYTES: Final = 1 << 24
"""A Call's line is a few kilobytes; what is longer than this is none, and DuckDB would stop at it."""
_BLOCK_BYTES: Final = 1 << 22
_ROWS: Final = 10_000
_PARQUET: Final = b"PAR1"
_MEMORY: Final = "2GB"
_THREADS: Final = 8


@dataclass(frozen=True, slots=True)
class Ledger:
    """The files of one ledger.

    Rows come from `query`, which reads them anew each time.
    """

    folder: Path
    files: tuple[Path, ...]
    unreadable: Mapping[Path, str] = field(default_factory=dict[Path, str])
    """Files that cannot be opened, with the reason."""

    @property
    def size_bytes(self) -> int:
        """Give the size of all readable files."""
        return sum(path.stat().st_size for path in self.files)

    def query(
        self, sql: str, columns: Mapping[str, str], parameters: Sequence[object] = ()
    ) -> tuple[list[tuple[Any, ...]], dict[str, int]]:
        """Run SQL over the relation `lines`: the given columns of every line, and `filename`.

        A line that is no JSON object is a row of nulls.

        Args:
            sql: A query that reads from `lines`, `$1` and on standing for the parameters.
            columns: Name to DuckDB type; without any, the one column `json` holds each line.
            parameters: Values for the placeholders.

        Returns:
            The rows, and by file name the number of lines that were too long to be read at all.
        """
        if not self.files:
            return [], {}
        with connection() as database:
            try:
                return _run(database, sql, columns, self.files, parameters), {}
            except duckdb.InvalidInputException as error:
                if "maximum_object_size" not in str(error):
                    raise _unreadable(self.folder, error) from None
            except duckdb.Error as error:
                raise _unreadable(self.folder, error) from None
            with tempfile.TemporaryDirectory(prefix="farthing-report-") as folder:
                files, skipped = _without_long_lines(self.files, Path(folder))
                return _run(database, sql, columns, files, parameters), skipped


def ledger_location(given: Path | None) -> tuple[Path | None, str]:
    """Give the ledger's folder and where its name comes from; no folder where the ledger is switched off.

    Raises:
        ConfigurationError: farthing.toml or a FARTHING_* variable cannot be used.
    """
    if given is not None:
        return given.expanduser(), "--ledger"
    settings = load_settings({})
    if settings.ledger == "off":
        return None, "the setting ledger"
    from farthing.runtime import ledger_folder  # noqa: PLC0415 - it brings the whole core along

    return ledger_folder(settings), "the setting ledger" if settings.ledger is not None else "the default"


def find_ledger(given: Path | None) -> Ledger:
    """List the files of a ledger: a folder, or a single file.

    Raises:
        CommandError: The ledger is switched off, or its folder cannot be listed.
        ConfigurationError: farthing.toml or a FARTHING_* variable cannot be used.
    """
    folder, _ = ledger_location(given)
    if folder is None:
        raise CommandError('ledger: is "off", so there is nothing to read; name a folder with --ledger FOLDER')
    try:
        found = [folder] if folder.is_file() else _listed(folder)
        if not found and folder.is_dir():
            next(folder.iterdir(), None)  # glob() is silent about a folder that may not be listed
    except OSError as error:
        raise CommandError(f"{folder}: cannot be listed ({_reason(error)}); mend its permissions") from None
    files: list[Path] = []
    unreadable: dict[Path, str] = {}
    for path in found:
        try:
            fault = _fault(path)
        except OSError as error:
            fault = _reason(error)
        if fault is None:
            files.append(path)
        else:
            unreadable[path] = fault
    return Ledger(folder, tuple(files), unreadable)


def _listed(folder: Path) -> list[Path]:
    """List the files of a folder without the segments for which a Parquet file already stands."""
    replaced: set[str] = set()
    for journal in folder.glob(JOURNALS):
        try:
            told: dict[str, Any] = json.loads(journal.read_text())
            if (folder / str(told["target"])).is_file():
                replaced.update(str(name) for name in told["segments"])
        except (OSError, ValueError, KeyError, TypeError):
            continue  # somebody else's, or torn: then its Parquet file is not there yet either
    paths = (path for pattern in PATTERNS for path in folder.glob(pattern))
    return sorted(path for path in paths if path.name not in replaced)


def _fault(path: Path) -> str | None:
    """Say why a file cannot be read, without waiting for somebody to write into a pipe.

    Raises:
        OSError: It cannot be opened.
    """
    if not path.is_file():
        return "is no file"
    with path.open("rb") as file:
        if path.suffix != ".parquet":
            return None
        head = file.read(len(_PARQUET))
        file.seek(-min(len(_PARQUET), path.stat().st_size), os.SEEK_END)
        if head != _PARQUET or file.read() != _PARQUET:
            return "is no whole Parquet file"
    with connection() as database:
        try:
            database.execute("SELECT segment, number, line FROM read_parquet(?) LIMIT 0", [str(path.absolute())])
        except duckdb.Error:
            return "is no Parquet file of farthing's"
    return None


def quoted(name: str) -> str:
    """Quote an identifier for SQL."""
    return '"' + name.replace('"', '""') + '"'


def text_literal(text: str) -> str:
    """Quote a text for SQL."""
    return "'" + text.replace("'", "''") + "'"


@contextmanager
def connection() -> Generator[duckdb.DuckDBPyConnection]:
    """Open a database in memory that spills into a temporary folder, never into the working directory."""
    with (
        tempfile.TemporaryDirectory(prefix="farthing-report-") as spill,
        duckdb.connect(config={"temp_directory": spill, "memory_limit": _MEMORY}) as database,
    ):
        database.execute("SET TimeZone = 'UTC'; SET preserve_insertion_order = false")
        threads = database.execute("SELECT current_setting('threads')").fetchone()
        if threads is not None and int(threads[0]) > _THREADS:  # each of them holds buffers of its own
            database.execute(f"SET threads = {_THREADS}")
        yield database


def _run(
    database: duckdb.DuckDBPyConnection,
    sql: str,
    columns: Mapping[str, str],
    files: Sequence[Path],
    parameters: Sequence[object],
) -> list[tuple[Any, ...]]:
    segments = [path for path in files if path.suffix != ".parquet"]
    compacted = [path for path in files if path.suffix == ".parquet"]
    sources = [_segment_rows(segments, columns)] if segments else []
    sources += [_compacted_rows(compacted, columns)] if compacted else []
    statement = f"WITH lines AS ({' UNION ALL '.join(sources)}) {sql}"
    with watched(database, files):
        return database.execute(statement, list(parameters)).fetchall()


def _segment_rows(files: Sequence[Path], columns: Mapping[str, str]) -> str:
    options = f"format = 'newline_delimited', ignore_errors = true, maximum_object_size = {LONGEST_LINE_BYTES}"
    if not columns:
        return f"SELECT json FROM read_json_objects({_file_list(files)}, {options})"  # noqa: S608 - quoted
    typed = ", ".join(f"{quoted(name)}: {text_literal(kind)}" for name, kind in columns.items())
    chosen = ", ".join(quoted(name) for name in columns)
    return (
        f"SELECT {chosen}, filename FROM "  # noqa: S608 - quoted
        f"read_json({_file_list(files)}, {options}, filename = true, columns = {{{typed}}})"
    )


def _compacted_rows(files: Sequence[Path], columns: Mapping[str, str]) -> str:
    """Read the lines that a Parquet file holds as if they were a segment's; one that is no JSON is a row of nulls."""
    source = f"read_parquet({_file_list(files)}, filename = true)"
    line = "CASE WHEN json_valid(line) THEN line::JSON END"
    if not columns:
        return f"SELECT {line} AS json FROM {source}"  # noqa: S608 - quoted
    structure = text_literal(json.dumps(dict(columns)))
    chosen = ", ".join(f"fields.{quoted(name)} AS {quoted(name)}" for name in columns)
    return (
        f"SELECT {chosen}, filename FROM "  # noqa: S608 - quoted
        f"(SELECT json_transform({line}, {structure}) AS fields, filename FROM {source})"
    )


def _file_list(files: Sequence[Path]) -> str:
    # DuckDB takes a path that exists as written for that file, whatever pattern it may look like.
    return "[" + ", ".join(text_literal(str(path.absolute())) for path in files) + "]"


def compacted_lines(path: Path) -> Generator[bytes]:
    """Give the lines of a compacted day as they were written, in a stream."""
    with connection() as database:
        found = database.execute("SELECT line FROM read_parquet(?) ORDER BY segment, number", [str(path.absolute())])
        while rows := found.fetchmany(_ROWS):
            for (line,) in rows:
                yield str(line).encode() + b"\n"


def _without_long_lines(files: Sequence[Path], folder: Path) -> tuple[list[Path], dict[str, int]]:
    """Copy the files that hold lines no reader takes, without those lines; the others are used as they are."""
    usable: list[Path] = []
    skipped: dict[str, int] = {}
    for path in files:
        if path.suffix == ".parquet" or not _has_long_line(path):
            usable.append(path)
            continue
        copy = folder / path.name
        skipped[path.name] = _copy_short_lines(path, copy)
        usable.append(copy)
    return usable, skipped


def _has_long_line(path: Path) -> bool:
    length = 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK_BYTES):
            first = block.find(b"\n")
            if length + (len(block) if first < 0 else first) > LONGEST_LINE_BYTES:
                return True
            length = length + len(block) if first < 0 else len(block) - block.rfind(b"\n") - 1
    return False


def _copy_short_lines(path: Path, copy: Path) -> int:
    """Copy lines of a length that a Call can have; give the number of the others."""
    skipped = 0
    with path.open("rb") as source, copy.open("wb") as target:
        while piece := source.readline(LONGEST_LINE_BYTES):
            if piece.endswith(b"\n") or len(piece) < LONGEST_LINE_BYTES:
                target.write(piece)
                continue
            skipped += 1
            while piece and not piece.endswith(b"\n"):
                piece = source.readline(LONGEST_LINE_BYTES)
    shutil.copystat(path, copy)
    return skipped


def _unreadable(folder: Path, error: duckdb.Error) -> CommandError:
    told = str(error).partition("\n")[0]
    return CommandError(f"{folder}: cannot be read ({told}); move the damaged file elsewhere and try again")


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
