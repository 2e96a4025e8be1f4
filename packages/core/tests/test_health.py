"""What health() says and what the metrics say is one and the same, down to the last count."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import TYPE_CHECKING

import farthing
from farthing import setup
from farthing.meter import Finish
from farthing.testing.receiver import OtlpReceiver

if TYPE_CHECKING:
    from pathlib import Path

USAGE = {"prompt_tokens": 1000, "completion_tokens": 200}


def spend() -> None:
    """Make a call of every kind that health() tells apart, end one twice, and end one that never began."""
    meter = setup.get_meter()
    assert meter is not None
    finishes = {
        "priced": Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat"),
        "unreported": Finish(ended_ns=time.time_ns()),
        "cache hit": Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat", cache_hit=True),
        "not billed": Finish(ended_ns=time.time_ns(), outcome="error", error_type="429", billed=False),
        "unpriced": Finish(ended_ns=time.time_ns(), usage=USAGE, usage_shape="openai_chat"),
    }
    for key, finish in finishes.items():
        model = "nobody-knows-it" if key == "unpriced" else "gpt-4o"
        meter.start_call(
            key, framework="x", operation="chat", provider="openai", model=model, tags={"feature": "x" * 500}
        )
        meter.finish_call(key, finish)
        meter.finish_call(key, finish)
    meter.finish_call("never began", finishes["priced"])


def test_what_an_earlier_configuration_told_is_not_told_again(tmp_path: Path) -> None:
    """Each is an instance of its own to a backend, which adds instances up; health() stays that of the process."""
    told: dict[object, float] = {}
    for _ in range(3):
        with OtlpReceiver() as receiver:
            farthing.configure(ledger=str(tmp_path), otlp_endpoint=receiver.endpoint)
            spend()
            assert farthing.flush(20)
            for point in receiver.points:
                if point.metric == "farthing.events" and point.attributes["farthing.event"] == "calls":
                    told[point.resource["service.instance.id"], point.attributes["farthing.reason"]] = point.value
            farthing.shutdown()
    assert sum(told.values()) == farthing.health().calls == 15


def test_health_and_the_metrics_agree_on_every_count(tmp_path: Path) -> None:
    """Who watches the metrics must see each loss that health() tells of, and the other way round."""
    with OtlpReceiver() as receiver:
        farthing.configure(ledger=str(tmp_path), otlp_endpoint=receiver.endpoint)
        spend()
        assert farthing.flush(20)
        assert farthing.flush(20)  # the sums that leave with the spans do not know yet that those were sent
        told: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for point in receiver.points:
            if point.metric == "farthing.events":
                told[str(point.attributes["farthing.event"])][str(point.attributes["farthing.reason"])] = int(
                    point.value
                )
        by_status: defaultdict[str, int] = defaultdict(int)
        for point in receiver.points:
            if point.metric == "farthing.calls":
                by_status[str(point.attributes["farthing.cost.status"])] += int(point.value)
    health = farthing.health()
    kinds = (health.priced, health.unpriced, health.unreported, health.cache_hits, health.not_billed)
    assert (health.calls, *kinds) == (5, 1, 1, 1, 1, 1)
    assert dict(by_status) == told["calls"] == dict.fromkeys(told["calls"], 1)
    assert (health.duplicates, health.unknown_ends) == (5, 1)
    assert (sum(told["duplicates"].values()), sum(told["unknown_ends"].values())) == (5, 1)
    assert (
        told["ledger"]
        == {"written": health.ledger_written, "failed": health.ledger_failed}
        == {
            "written": 5,
            "failed": 0,
        }
    )
    assert told["exported"]["spans:sent"] == health.sent == 5
    assert told["violations"] == health.violations == {"feature:too-long": 5}
    for name in ("dropped", "skipped", "spool", "refused", "context", "neighbours", "faults"):
        assert told[name] == getattr(health, name) == {}, name
    levels = {
        point.attributes["farthing.waiting.for"]: point.value
        for point in receiver.points
        if point.metric == "farthing.waiting"
    }
    assert levels == {"queued": 0, "open_runs": 0, "spooled": 0, "ledger_waiting": 0}
