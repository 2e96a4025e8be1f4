"""What a crash, a full disk or a stranger left in the ledger is skipped, counted and named."""

from __future__ import annotations

import os
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest
from reports_bench import WriteLedger, make_call

from farthing_reports.keys import Vocabulary
from farthing_reports.ledger import LONGEST_LINE_BYTES, find_ledger
from farthing_reports.report import Report, aggregate

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def sound(write_ledger: WriteLedger) -> Path:
    """Give the one file of a ledger with three calls of one cent."""
    folder = write_ledger([make_call(tags={"feature": "chat"}) for _ in range(3)])
    (file,) = folder.iterdir()
    return file


def read(file: Path) -> Report:
    """Report on the folder of a file, by feature."""
    return aggregate(find_ledger(file.parent), [Vocabulary().require("feature", "--by")])


def others(lines: bytes) -> bytes:
    """Give the same calls under other ids."""
    return lines.replace(b'"call_id":"call-', b'"call_id":"other-')


@pytest.mark.parametrize(
    ("lines", "damaged"),
    [
        (b"garbage\n", 1),
        (b'{"schema": nope}\n', 1),
        (b"[1,2]\n5\nnull\n{}\n", 4),
        (b"\0\0\0\0\n", 1),
        (b"\n   \n", 0),
        (b"[" * 100_000 + b"\n", 1),
        (b'{"schema":"farthing.call/1"}\n', 1),
        (
            b'{"schema":"farthing.call/1","call_id":"c","started_at":"yesterday","cost":{"status":"priced","amount_usd":"1"}}\n',
            1,
        ),
        (
            b'{"schema":"farthing.call/1","call_id":"c","started_at":"2026-11-20T12:00:00Z","cost":{"status":"priced","amount_usd":"1,5"}}\n',
            1,
        ),
        (
            b'{"schema":"farthing.call/1","call_id":"c","started_at":"2026-11-20T12:00:00Z","cost":{"status":"priced","amount_usd":"NaN"}}\n',
            1,
        ),
        (b'{"schema":"farthing.call/1","call_id":"c","started_at":"2026-11-20T12:00:00Z","cost":7}\n', 1),
    ],
)
def test_damaged_lines_are_skipped_and_counted(lines: bytes, damaged: int, sound: Path) -> None:
    """Lines that are no calls, between lines that are, cost nothing but their mention."""
    whole = sound.read_bytes()
    sound.write_bytes(lines + whole + lines + others(whole))
    found = read(sound)
    assert [(row.dimensions["feature"], row.calls, row.cost_usd) for row in found.rows] == [
        ("chat", 6, Decimal("0.06"))
    ]
    assert [(each.file, each.damaged_lines, each.torn) for each in found.skipped] == (
        [(sound.name, 2 * damaged, False)] if damaged else []
    )


def test_torn_last_line(sound: Path) -> None:
    """A process that died while writing leaves the start of a line; the lines before it count."""
    whole = sound.read_bytes()
    sound.write_bytes(whole[: len(whole) - 200])
    found = read(sound)
    assert found.rows[0].calls == 2
    assert [(each.damaged_lines, each.torn) for each in found.skipped] == [(1, True)]


def test_two_calls_on_a_line_are_damage(sound: Path) -> None:
    """A lost newline loses its line, never counts half of it."""
    first, rest = sound.read_bytes().split(b"\n", 1)
    sound.write_bytes(first + first + b"\n" + rest)
    found = read(sound)
    assert found.rows[0].calls == 2
    assert found.skipped[0].damaged_lines == 1


def test_other_schemas_are_named(sound: Path) -> None:
    """Lines of a later version are told apart from damage."""
    whole = sound.read_bytes()
    sound.write_bytes(whole + whole.replace(b"farthing.call/1", b"farthing.call/2"))
    found = read(sound)
    assert found.rows[0].calls == 3
    assert found.skipped[0].other_schemas == {"farthing.call/2": 3}
    assert found.skipped[0].damaged_lines == 0


def test_binary_file(sound: Path) -> None:
    """A file of noise beside a good one takes nothing from it."""
    (sound.parent / "calls-noise.jsonl").write_bytes(os.urandom(100_000))
    found = read(sound)
    assert [(row.calls, row.cost_usd) for row in found.rows] == [(3, Decimal("0.03"))]
    assert [each.file for each in found.skipped] == ["calls-noise.jsonl"]


@pytest.mark.parametrize("ends", [b"\n", b""])
def test_line_longer_than_any_reader_takes(ends: bytes, sound: Path) -> None:
    """A line of tens of megabytes is skipped and counted; the file before and behind it is read."""
    whole = sound.read_bytes()
    sound.write_bytes(
        whole + b"y" * (LONGEST_LINE_BYTES * 2 + 100) + b"\n" + others(whole) + b"z" * (LONGEST_LINE_BYTES * 2) + ends
    )
    found = read(sound)
    assert found.rows[0].calls == 6
    assert found.skipped[0].damaged_lines == 2


def test_empty_and_foreign_files_are_no_damage(sound: Path) -> None:
    """An empty file and files that are not the ledger's are passed over in silence."""
    (sound.parent / "calls-empty.jsonl").touch()
    (sound.parent / "notes.jsonl").write_text("hello\n", encoding="utf-8")
    found = read(sound)
    assert found.rows[0].calls == 3
    assert found.skipped == []


def test_what_only_has_the_name_of_a_file_is_named_and_reading_goes_on(sound: Path) -> None:
    """A pipe would keep its reader for ever; a Parquet file that is none must not end the report."""
    folder = sound.parent
    (folder / "calls-folder.jsonl").mkdir()
    os.mkfifo(folder / "calls-pipe.jsonl")
    (folder / "calls-gone.jsonl").symlink_to(folder / "nowhere")
    (folder / "calls-cut.parquet").write_bytes(b"PAR1 and no end")
    (folder / "calls-hollow.parquet").write_bytes(b"PAR1" + b"x" * 1000 + b"PAR1")
    (folder / "calls-empty.parquet").touch()
    assert read(sound).rows[0].calls == 3
    assert {path.name for path in find_ledger(folder).unreadable} == {
        "calls-folder.jsonl",
        "calls-pipe.jsonl",
        "calls-gone.jsonl",
        "calls-cut.parquet",
        "calls-hollow.parquet",
        "calls-empty.parquet",
    }


def test_folder_that_looks_like_a_pattern(sound: Path) -> None:
    """Brackets, quotes and stars in a path are names, not patterns."""
    folder = sound.parent.parent / "le[dg]er*{a,b}?'s"
    sound.parent.rename(folder)
    assert read(folder / sound.name).rows[0].calls == 3


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_unreadable_file_is_named(sound: Path) -> None:
    """A file that may not be read is named with its reason, the others are read."""
    other = sound.parent / "calls-secret.jsonl"
    other.write_bytes(sound.read_bytes())
    other.chmod(0)
    ledger = find_ledger(sound.parent)
    assert list(ledger.unreadable) == [other]
    assert read(sound).rows[0].calls == 3


def test_ledger_may_be_one_file(sound: Path) -> None:
    """--ledger takes a single file, whatever its name."""
    other = sound.parent.parent / "export.json"
    other.write_bytes(sound.read_bytes())
    assert aggregate(find_ledger(other), []).rows[0].calls == 3
