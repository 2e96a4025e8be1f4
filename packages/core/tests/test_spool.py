"""What could not be sent waits on disk, within bounds, and leaves in order, once."""

from __future__ import annotations

import errno
import gzip
import os
import shutil
import stat
import struct
import subprocess
import sys
import time
import zlib
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.sdk.resources import Resource

from farthing.answers import Answer
from farthing.counting import Counters
from farthing.otlp import Destination, halves, spans_in
from farthing.shipping import Shipper
from farthing.sifting import sift
from farthing.sinks.points import PointMeter
from farthing.sinks.segments import FIRST_MAGIC, FRAME, HEADER, Record, spool_contents, write_all
from farthing.sinks.spool import Spool
from farthing.testing.receiver import OtlpReceiver

if TYPE_CHECKING:
    from pathlib import Path

TAG = "0a1b2c3d"


def spool_in(folder: Path, counters: Counters | None = None, *, max_bytes: int = 64 << 20) -> Spool:
    """Make a spool as one process would."""
    return Spool(folder, tag=TAG, max_bytes=max_bytes, max_age_seconds=3600, counters=counters or Counters())


def request(*names: str) -> bytes:
    """Encode spans with these names."""
    made = ExportTraceServiceRequest()
    for name in names:
        span = made.resource_spans.add().scope_spans.add().spans.add()
        span.name = name
        span.span_id = name.encode().ljust(8, b"\0")[:8]
    return made.SerializeToString()


def shipper(receiver: OtlpReceiver, spool: Spool | None, counters: Counters) -> Shipper:
    """Make a sending thread for spans."""
    destination = Destination.of("TRACES", f"{receiver.endpoint}/v1/traces", environ={})
    return Shipper(destination, word="spans", spool=spool, counters=counters)


def flush(made: Shipper, seconds: float = 10.0) -> bool:
    """Send everything now."""
    return made.wait(made.ask(), seconds)


def adopt_all(spool: Spool) -> list[bytes | None]:
    """Take over everything that other processes left."""
    found: list[Record] = []
    while records := spool.adopt():
        found += records
    return [spool.read(record) for record in found]


def test_what_one_process_leaves_another_takes_over_in_order(tmp_path: Path) -> None:
    """A restarted service must send what the outage kept its predecessor from sending."""
    first = spool_in(tmp_path)
    for number in range(20):
        first.append("bills", f"{number}".encode(), 1)
    second = spool_in(tmp_path)
    assert second.adopt() == []
    first.close()
    assert adopt_all(second) == [f"{number}".encode() for number in range(20)]
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {0o600}


def test_what_was_taken_is_not_sent_again_after_a_crash(tmp_path: Path) -> None:
    """A bill that arrives twice is a wrong bill for a backend that does not look at span ids."""
    first = spool_in(tmp_path)
    records = [first.append("bills", f"{number}".encode(), 1) for number in range(5)]
    for record in records[:3]:
        first.done(record)
    first.abandon()
    assert adopt_all(spool_in(tmp_path)) == [b"3", b"4"]


def test_everything_taken_leaves_no_file(tmp_path: Path) -> None:
    """A healthy service must not fill the disk."""
    spool = spool_in(tmp_path)
    for number in range(3000):
        spool.done(spool.append("bills" if number % 2 else "structure", b"x" * 1000, 1))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 1 << 20
    spool.close()
    assert not list(tmp_path.glob("*"))


def test_a_full_spool_parts_with_structure_before_bills_and_counts_both(tmp_path: Path) -> None:
    """What must be lost is lost in the stated order, and said."""
    counters = Counters()
    spool = spool_in(tmp_path, counters, max_bytes=1 << 20)
    for _ in range(8):
        spool.append("bills", b"b" * 60_000, 10)
        spool.append("structure", b"s" * 60_000, 10)
    for _ in range(8):
        spool.append("bills", b"b" * 60_000, 10)
    lost = counters.by_reason("exported")["spans:lost"]
    kinds = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert "bills" in kinds
    assert kinds.count("structure") < 8
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20
    spool.close()
    left = spool_in(tmp_path, max_bytes=1 << 20)
    kept: list[Record] = []
    while records := left.adopt():
        kept += records
    assert sum(record.count for record in kept) + lost == 240
    assert sum(record.count for record in kept if record.kind == "bills") == 160
    for _ in range(20):
        spool.append("bills", b"b" * 60_000, 10)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 1 << 20


@pytest.mark.parametrize(
    ("damage", "kept", "counted", "quarantined"),
    [
        ("torn", 2, "torn", 0),
        ("flipped", 2, None, 1),
        ("garbage behind", 3, "damaged", 1),
        ("no header", 0, "damaged", 1),
        ("empty", 0, "damaged", 0),
    ],
)
def test_a_damaged_segment_gives_what_is_whole(
    tmp_path: Path, damage: str, kept: int, counted: str | None, quarantined: int
) -> None:
    """A crash, a bad disk or somebody's editor must not stop the rest, nor pass unseen."""
    spool = spool_in(tmp_path)
    for number in range(3):
        spool.append("bills", f"payload {number}".encode(), 1)
    spool.close()
    (path,) = tmp_path.glob("*.spool")
    data = path.read_bytes()
    path.write_bytes(
        {
            "torn": data[:-3],
            "flipped": data.replace(b"payload 1", b"payload X"),
            "garbage behind": data + b"\xff" * 100,
            "no header": b"not a spool at all, but long enough to be one",
            "empty": b"",
        }[damage]
    )
    counters = Counters()
    heir = spool_in(tmp_path, counters)
    records: list[Record] = []
    while found := heir.adopt():
        records += found
    payloads = [heir.read(record) for record in records]
    assert len([payload for payload in payloads if payload is not None]) == kept
    for record in records:
        heir.done(record)
    heir.close()
    assert len(spool_contents(tmp_path).quarantined) == quarantined
    assert counted is None or counters.by_reason("spool") == {counted: 1}
    assert counted is not None or counters.by_reason("exported") == {"spans:damaged": 1}


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize(
    ("damage", "kept"),
    [("offset", 3), ("offset inside", 2), ("longer", 2), ("shorter", 2), ("marker", 2), ("count", 2)],
)
def test_damage_in_a_header_costs_one_request_at_most(tmp_path: Path, damage: str, kept: int, version: int) -> None:
    """A flipped bit in front of a request must neither hide those behind it nor delete the file that shows it."""
    first = spool_in(tmp_path)
    records = [first.append("bills", f"payload {number}".encode(), 1) for number in range(3)]
    first.close()
    (path,) = tmp_path.glob("*.spool")
    data = bytearray(path.read_bytes())
    place, length = records[1].offset, records[1].length
    if version == 1:
        data[:32] = HEADER.pack(FIRST_MAGIC, HEADER.size)
        for record in records:
            number = zlib.crc32(data[record.offset + FRAME.size :][: record.length])
            struct.pack_into("<I", data, record.offset + 8, number)
    places = {"offset": (24, 1 << 40), "offset inside": (24, records[0].offset + 3), "longer": (place + 4, 1 << 20)}
    places |= {"shorter": (place + 4, length - 5), "marker": (place, 0), "count": (place + 12, 4_000_000_000)}
    at_byte, value = places[damage]
    struct.pack_into("<Q" if at_byte == 24 else "<I", data, at_byte, value)
    path.write_bytes(data)
    counters = Counters()
    heir = spool_in(tmp_path, counters)
    found = heir.adopt()
    payloads = [payload for record in found if (payload := heir.read(record)) is not None]
    for record in found:
        heir.done(record)
    heir.close()
    if damage == "count" and version == 1:
        assert len(payloads) == 3  # its checksum does not say, and the request is whole
        return
    assert len(payloads) == kept
    assert b"payload 2" in payloads
    assert len(spool_contents(tmp_path).quarantined) == 1
    told = counters.by_reason("spool") | counters.by_reason("exported")
    assert told == ({"spans:damaged": 1} if damage == "count" else {"damaged": 1})


def test_what_only_has_the_name_of_a_segment_is_put_aside(tmp_path: Path) -> None:
    """A pipe would keep its reader for ever, a link lead elsewhere; both are named, and the sound one is sent."""
    sound = spool_in(tmp_path)
    sound.append("bills", b"x", 1)
    sound.close()
    secret = tmp_path / "elsewhere"
    secret.write_bytes(b"somebody's")
    names = [f"bills-{TAG}-{number:020d}-000001-1-0000000{number}.spool" for number in range(5)]
    os.mkfifo(tmp_path / names[0])
    (tmp_path / names[1]).mkdir()
    (tmp_path / names[2]).symlink_to(secret)
    (tmp_path / names[3]).write_bytes(gzip.compress(b"0" * 10_000_000))
    (tmp_path / names[4]).write_bytes(b"x" * 10_000_000)
    assert spool_contents(tmp_path).quarantined == tuple(names)
    counters = Counters()
    assert adopt_all(spool_in(tmp_path, counters)) == [b"x"]
    assert spool_contents(tmp_path).quarantined == tuple(names)
    assert counters.by_reason("spool") == {"damaged": 5}
    assert secret.read_bytes() == b"somebody's"


def test_a_redirect_takes_neither_spans_nor_headers_to_another_host(tmp_path: Path) -> None:
    """A receiver, or somebody in its place, must not hand the key of one host to another."""
    counters = Counters()
    environ = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret"}
    with OtlpReceiver() as other, OtlpReceiver(status=307, location=f"{other.endpoint}/v1/traces") as receiver:
        destination = Destination.of("TRACES", f"{receiver.endpoint}/v1/traces", environ)
        made = Shipper(destination, word="spans", spool=spool_in(tmp_path, counters), counters=counters)
        made.put("bills", request("a"), 1)
        assert flush(made) is False
        assert other.requests == 0
        receiver.status = 200
        assert flush(made) is True
        assert receiver.headers[0]["api-key"] == "secret"
        made.close()


def at(headers: str) -> Destination:
    """Give a destination that differs in its headers alone."""
    return Destination.of("TRACES", "http://a/v1/traces", environ={"OTEL_EXPORTER_OTLP_HEADERS": headers})


@pytest.mark.parametrize("name", ["authorization", "api-key", "X-API-Key", "x_token", "dd-api-key", "uptrace-dsn"])
def test_what_waited_for_a_key_leaves_with_the_next_one(tmp_path: Path, name: str) -> None:
    """An expired key is mended by another value: what was kept for it must not be stranded by that."""
    assert at(f"{name}=old").tag == at(f"{name}=new").tag
    assert at(f"{name}=old,x-tenant=a").tag != at(f"{name}=old,x-tenant=b").tag


def test_what_waits_for_a_receiver_that_is_gone_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """After a change of the endpoint, nobody sends what was kept for the earlier one: somebody must hear of it."""
    first = Spool(tmp_path, tag="f" * 8, max_bytes=1 << 20, max_age_seconds=9e9, counters=Counters())
    first.append("bills", b"x", 1)
    (path,) = tmp_path.iterdir()
    counters = Counters()
    heir = spool_in(tmp_path, counters)
    os.utime(path, (1, 1))
    assert heir.adopt() == []
    assert counters.by_reason("spool") == {}  # its process lives
    first.close()
    os.utime(path, None)
    assert heir.adopt() == []
    assert counters.by_reason("spool") == {}  # it may have a successor
    os.utime(path, (1, 1))
    assert heir.adopt(("metrics",)) == []
    assert counters.by_reason("spool") == {}  # that receiver is another's to know
    assert heir.adopt() == heir.adopt() == []
    assert counters.by_reason("spool") == {"stranded": 1}
    assert "a receiver that nobody exports to" in caplog.text


def test_a_segment_is_for_its_receiver_alone(tmp_path: Path) -> None:
    """Two applications of a machine share the folder; one's spans must not leave with the other's key."""
    mine, other = at("X-Scope-OrgID=secret1"), at("X-Scope-OrgID=secret2")
    assert mine.tag != other.tag
    first = Spool(tmp_path, tag=mine.tag, max_bytes=1 << 20, max_age_seconds=60, counters=Counters())
    first.append("bills", b"x", 1)
    first.close()
    assert Spool(tmp_path, tag=other.tag, max_bytes=1 << 20, max_age_seconds=60, counters=Counters()).adopt() == []
    assert "secret1" not in repr(mine)


def test_headers_do_not_leave_for_another_host() -> None:
    """OTEL_EXPORTER_OTLP_HEADERS is a credential of the host beside it."""
    environ = {"OTEL_EXPORTER_OTLP_ENDPOINT": "https://vendor.example", "OTEL_EXPORTER_OTLP_HEADERS": "api-key=s%3D1"}
    assert Destination.of("TRACES", "https://vendor.example/v1/traces", environ).headers == {"api-key": "s=1"}
    assert Destination.of("TRACES", "http://localhost:4318/v1/traces", environ).headers == {}
    assert Destination.of("TRACES", "http://vendor.example/v1/traces", environ).headers == {}  # in plain sight
    with pytest.raises(ValueError, match="no HTTP URL"):
        Destination.of("TRACES", "localhost:4318", environ)


@pytest.mark.parametrize("arrives", [True, False])
def test_older_sums_on_disk_do_not_outlive_newer_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arrives: bool
) -> None:
    """The disk is full for one snapshot: what was written before it must not be told after it by the next process."""
    full = [False]

    def write(descriptor: int, data: bytes, offset: int) -> None:
        if full[0] and offset:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_all(descriptor, data, offset)

    monkeypatch.setattr("farthing.sinks.spool.write_all", write)
    counters = Counters()
    point = PointMeter(resource=Resource({}), scope_name="farthing", scope_version="1")
    count = point.create_counter("calls")
    with OtlpReceiver(status=503) as receiver:
        destination = Destination.of("METRICS", f"{receiver.endpoint}/v1/metrics", environ={})
        made = Shipper(destination, word="metrics", spool=spool_in(tmp_path), counters=counters, sums=point)
        count.add(1.0)
        assert flush(made) is False
        full[0] = True
        count.add(1.0)
        receiver.status = 200 if arrives else 503
        assert flush(made) is arrives
        full[0] = arrives
        made.close()
        assert [found.value for found in receiver.points] == [2.0] * arrives
    left = [ExportMetricsServiceRequest.FromString(each or b"") for each in adopt_all(spool_in(tmp_path))]
    values = [found.resource_metrics[0].scope_metrics[0].metrics[0].sum.data_points[0].as_double for found in left]
    assert values == [2.0] * (not arrives)
    assert counters.by_reason("faults")["farthing.sinks.spool"] >= 1


@pytest.mark.parametrize("at_the_end", [False, True])
def test_a_spool_that_is_removed_under_a_process_is_written_down_again(tmp_path: Path, at_the_end: bool) -> None:
    """Whoever tidies up must not take bills along that a living process still holds, at whatever offsets they are."""
    folder = tmp_path / "spool"
    counters = Counters()
    first = spool_in(folder, counters)
    records = [first.append("bills", f"{number}".encode(), 1) for number in range(3)]
    first.done(records[0])
    shutil.rmtree(folder)
    if not at_the_end:
        first.append("bills", b"3", 1)
        records[1].payload = None
        assert first.read(records[1]) == b"1"
        assert spool_in(folder).adopt() == []  # it is locked, as any other
    first.close()
    assert adopt_all(spool_in(folder)) == [b"1", b"2", *([] if at_the_end else [b"3"])]
    assert counters.by_reason("faults") == {"farthing.sinks.spool": 1}


def test_the_oldest_age_is_given_up(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Spans of last month help nobody, and would be refused."""
    first = spool_in(tmp_path)
    first.append("bills", b"x", 7)
    first.close()
    (path,) = tmp_path.iterdir()
    os.utime(path, (time.time() - 7200, time.time() - 7200))
    counters = Counters()
    assert spool_in(tmp_path, counters).adopt() == []
    assert counters.by_reason("exported") == {"spans:lost": 7}
    assert "spool_max_age_hours" in caplog.text
    assert not list(tmp_path.glob("*"))


def test_a_clock_that_jumps_ahead_throws_nothing_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be wrong by days when a machine starts; a spool that was fine a moment ago must not be too old by that."""
    day = 86_400
    first = spool_in(tmp_path)
    first.append("bills", b"old", 1)
    first.close()
    (old,) = tmp_path.iterdir()
    second = spool_in(tmp_path)
    second.append("bills", b"new", 1)
    second.close()
    os.utime(old, (time.time() - 7200, time.time() - 7200))
    ahead = time.time() - time.monotonic() + 8 * day
    monkeypatch.setattr("time.time", lambda: time.monotonic() + ahead)
    counters = Counters()
    third = Spool(tmp_path, tag=TAG, max_bytes=1 << 20, max_age_seconds=day, counters=counters)
    third.append("structure", b"of the new time", 1)
    assert adopt_all(third) == [b"old", b"new"]
    third.close()
    assert adopt_all(spool_in(tmp_path, counters)) == [b"new", b"of the new time"]  # an hour's limit: one is too old
    assert counters.by_reason("exported") == {"spans:lost": 1}


def test_a_killed_process_leaves_its_spool_to_the_living(tmp_path: Path) -> None:
    """The lock dies with its process, whatever killed it."""
    script = f"""
import os, pathlib, signal, sys
from farthing.counting import Counters
from farthing.sinks.spool import Spool
spool = Spool(pathlib.Path(sys.argv[1]), tag={TAG!r}, max_bytes=1 << 20, max_age_seconds=60, counters=Counters())
spool.append("bills", b"x", 1)
if os.fork() == 0:
    spool.abandon()
    os.close(1)
    import time; time.sleep(5); os._exit(0)
print("ready", flush=True)
signal.pause()
"""
    child = subprocess.Popen([sys.executable, "-c", script, tmp_path], stdout=subprocess.PIPE)  # noqa: S603 - ours
    assert child.stdout is not None
    child.stdout.readline()
    heir = spool_in(tmp_path)
    assert heir.adopt() == []
    child.kill()
    child.communicate()
    assert adopt_all(heir) == [b"x"]


def test_retry_after_is_honoured_and_then_everything_arrives(tmp_path: Path) -> None:
    """A backend that asks for time gets it, even from flush()."""
    counters = Counters()
    with OtlpReceiver(status=429, retry_after="1") as receiver:
        made = shipper(receiver, spool_in(tmp_path, counters), counters)
        made.put("bills", request("a"), 1)
        assert flush(made) is False
        asked = receiver.requests
        assert flush(made, 0.3) is False
        assert receiver.requests == asked
        receiver.status = 200
        time.sleep(1.1)
        assert flush(made) is True
        assert [span.name for span in receiver.spans] == ["a"]
        made.close()
    assert not list(tmp_path.glob("*"))


def test_retry_after_may_be_a_date_of_a_clock_that_is_not_ours(tmp_path: Path) -> None:
    """A receiver whose clock is an hour off means the same seconds; our own clock may be the wrong one."""
    counters = Counters()
    off = datetime.now(UTC) + timedelta(hours=1)
    with OtlpReceiver(status=503, retry_after=format_datetime(off + timedelta(seconds=2), usegmt=True)) as receiver:
        receiver.date = format_datetime(off, usegmt=True)
        made = shipper(receiver, spool_in(tmp_path, counters), counters)
        made.put("bills", request("a"), 1)
        assert flush(made) is False
        asked, receiver.status = receiver.requests, 200
        assert flush(made, 0.3) is False
        assert receiver.requests == asked
        time.sleep(2.1)
        assert flush(made) is True
        made.close()


@pytest.mark.parametrize("told", ["0", "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_retry_after_nothing_is_no_leave_to_ask_without_end(tmp_path: Path, told: str) -> None:
    """A backend that says 0, or a moment that is over, is in trouble already: thousands of requests end it."""
    counters = Counters()
    with OtlpReceiver(status=503, retry_after=told) as receiver:
        made = shipper(receiver, spool_in(tmp_path, counters), counters)
        made.put("bills", request("a"), 1)
        time.sleep(1.5)
        assert 1 <= receiver.requests <= 3
        receiver.status = 200
        assert flush(made) is True  # it told no time to wait for, so whoever flushes may ask at once
        made.close()


@pytest.mark.parametrize("spooled", [True, False])
def test_one_unreadable_span_does_not_hold_up_the_others(tmp_path: Path, spooled: bool) -> None:
    """A receiver that answers 400 to a span would answer so for ever; the rest of the batch is innocent."""
    counters = Counters()
    with OtlpReceiver(refuses=lambda body: b"poison" in body) as receiver:
        made = shipper(receiver, spool_in(tmp_path, counters) if spooled else None, counters)
        made.put("bills", request("a", "b", "poison", "c"), 4)
        made.put("bills", request("d"), 1)
        assert flush(made) is True
        made.close()
        assert [span.name for span in receiver.spans] == ["a", "b", "c", "d"]
    assert counters.by_reason("exported") == {"spans:sent": 4, "spans:refused": 1}
    assert len(spool_contents(tmp_path).quarantined) == spooled


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"<html>Log in</html>", "text/html; charset=utf-8"),
        (b"{}", "text/html"),
        (b"<!DOCTYPE html>", "application/x-protobuf"),
        (b"please log in", "text/plain"),
        (bytes(range(128, 256)), "application/octet-stream"),
        (b"[" * 60_000, "application/json"),
    ],
)
def test_a_page_is_no_delivery(tmp_path: Path, caplog: pytest.LogCaptureFixture, body: bytes, kind: str) -> None:
    """A login page in front of a backend says 200 too; what it swallowed must be sent again behind it."""
    counters = Counters()
    with OtlpReceiver(answer=(body, kind)) as receiver:
        made = shipper(receiver, spool_in(tmp_path, counters), counters)
        made.put("bills", request("a"), 1)
        assert flush(made) is False
        assert (made.waiting, set(counters.by_reason("exported"))) == (1, {"spans:attempts-failed"})
        assert "without an OTLP answer" in caplog.text
        receiver.answer = b"", kind
        assert flush(made) is True
        made.close()
    assert counters.by_reason("exported")["spans:sent"] == 1


@pytest.mark.parametrize(
    ("body", "rejected"),
    [
        (b"{}", 0),
        (b"OK\n", 0),
        (b'{"partialSuccess":{"rejectedSpans":"2","errorMessage":"no"}}', 2),
        (b"[]", 0),
        (b"{" + b" " * 70_000, 0),
        (
            ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=2)).SerializeToString(),
            2,
        ),
    ],
)
def test_what_is_an_answer_is_taken_as_one(tmp_path: Path, body: bytes, rejected: int) -> None:
    """Receivers answer in JSON, in a word or at length; whoever resent for that would fill the backend with doubles."""
    counters = Counters()
    with OtlpReceiver(answer=(body, "application/json")) as receiver:
        made = shipper(receiver, spool_in(tmp_path, counters), counters)
        made.put("bills", request("a", "b", "c"), 3)
        assert flush(made) is True
        assert receiver.requests == 1
        made.close()
    assert counters.by_reason("exported") == {"spans:sent": 3 - rejected} | ({"spans:rejected": 2} if rejected else {})


def test_an_endpoint_that_refuses_everything_costs_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A TLS port answers plain HTTP with 400: an hour of that must neither storm it nor throw the hour's bills away."""
    counters = Counters()
    bad = [True]
    with OtlpReceiver(refuses=lambda _: bad[0]) as receiver:
        made = shipper(receiver, spool_in(tmp_path, counters), counters)
        for batch in range(3):
            made.put("bills", request(*(f"{batch}-{number}" for number in range(400))), 400)
        assert flush(made) is False
        assert flush(made) is False
        assert receiver.requests < 80
        assert (made.waiting, spool_contents(tmp_path).quarantined) == (1200, ())
        assert [text for text in caplog.messages if "port 4318" in text] == caplog.messages != []
        bad[0] = False
        assert flush(made) is True
        assert len({span.name for span in receiver.spans}) == 1200
        made.close()
    assert counters.by_reason("exported") == {"spans:sent": 1200, "spans:attempts-failed": 2}


def test_a_refused_span_is_put_aside_once_another_one_is_taken(tmp_path: Path) -> None:
    """Alone it may be the endpoint's fault, so it waits; what others left is sent meanwhile."""
    counters = Counters()
    left = spool_in(tmp_path)
    left.append("bills", request("left"), 1)
    with OtlpReceiver(refuses=lambda body: b"poison" in body) as receiver:
        made = shipper(receiver, spool_in(tmp_path, counters), counters)
        made.put("bills", request("poison"), 1)
        assert flush(made) is False
        assert made.waiting == 1
        left.close()
        deadline = time.monotonic() + 10
        while not flush(made) and time.monotonic() < deadline:
            time.sleep(0.1)
        made.close()
        assert [span.name for span in receiver.spans] == ["left"]
    assert counters.by_reason("exported")["spans:refused"] == 1
    assert len(spool_contents(tmp_path).quarantined) == 1


def test_refused_spans_in_front_do_not_hide_good_ones_for_ever() -> None:
    """A version that made bad spans for an hour must not hold up all that came after it."""
    requests = [request(*(f"bad{number}" for number in range(50))), request("good")]
    taken: list[bytes] = []

    def post(body: bytes) -> Answer:
        if b"bad" in body:
            return Answer("refused", "HTTP 400")
        taken.append(body)
        return Answer("taken")

    assert sift(requests, post).settled == ()
    tries = (sift(requests, post, first=False) for _ in range(50))
    done = next(found for found in tries if found.taken)
    assert sorted(done.settled) == [0, 1]
    assert len(done.refused) == 50
    assert taken == [requests[1]]


def test_a_request_splits_in_two_without_loss() -> None:
    """413 is answered by smaller requests, not by dropping a big one."""
    first, second = halves(request("a", "b", "c", "d", "e"))
    assert (spans_in(first), spans_in(second)) == (2, 3)
    assert halves(request("a")) == ()
    assert halves(b"\xff\xff") == ()


def test_memory_alone_sheds_structure_first(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a disk there still is an order, and a count."""
    monkeypatch.setattr("farthing.shipping._UNSPOOLED_BYTES", 10_000)
    counters = Counters()
    with OtlpReceiver(status=503) as receiver:
        made = shipper(receiver, None, counters)
        for _ in range(10):
            made.put("structure", b"s" * 1000, 1)
            made.put("bills", b"b" * 1000, 1)
        assert made.waiting == 10
        assert counters.by_reason("exported")["spans:lost"] == 10
        for _ in range(10):
            made.put("bills", b"b" * 1000, 1)
        assert made.waiting == 10
        made.close()
    assert counters.by_reason("exported")["spans:lost"] == 30
