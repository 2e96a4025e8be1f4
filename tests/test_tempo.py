"""Against a real Tempo, where one is running: found by tag, and summed by feature to the ledger's total.

    export FARTHING_TEST_TEMPO=http://localhost:3200 FARTHING_TEST_OTLP=http://localhost:4318
    make test ARGS=tests/test_tempo.py

deploy/README.md says how to start one. Without those variables this file says so and tests nothing.
"""

from __future__ import annotations

import os
import time
from decimal import Decimal
from typing import TYPE_CHECKING, TypeVar
from uuid import uuid4

import httpx
import pytest

import farthing
from farthing import setup
from farthing.meter import Finish
from farthing.testing import capture

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")
TEMPO = os.environ.get("FARTHING_TEST_TEMPO")
OTLP = os.environ.get("FARTHING_TEST_OTLP")

pytestmark = [
    pytest.mark.skipif(not (TEMPO and OTLP), reason="NOT RUN: FARTHING_TEST_TEMPO or FARTHING_TEST_OTLP is not set"),
    pytest.mark.enable_socket,
]


def wait_for(question: Callable[[], T], seconds: float = 60.0) -> T:
    """Ask until there is an answer: Tempo shows a span some seconds after it took it."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = question()
        if answer:
            return answer
        time.sleep(1)
    pytest.fail("Tempo did not show what it was sent")


def test_cost_by_feature_in_traceql_is_the_ledgers() -> None:
    """The sum that a dashboard shows must be the one that the ledger holds."""
    assert TEMPO is not None
    run = f"run-{uuid4().hex[:8]}"
    with capture(otlp_endpoint=OTLP, service_name=run) as found:
        meter = setup.get_meter()
        assert meter is not None
        for number in range(20):
            with farthing.attribute(feature=f"{run}-{number % 2}"):
                meter.start_call(number, framework="x", operation="chat", provider="openai", model="gpt-4o")
            usage = {"prompt_tokens": 1000 + number, "completion_tokens": 10}
            meter.finish_call(number, Finish(ended_ns=time.time_ns(), usage=usage, usage_shape="openai_chat"))
        assert farthing.flush(10)
        calls = found.calls
    expected: dict[str, Decimal] = {}
    for call in calls:
        feature = call.attribution.feature or ""
        expected[feature] = expected.get(feature, Decimal(0)) + (call.cost.amount_usd or 0)

    def found_by_tag() -> object:
        query = f'{{ span.attribution.feature = "{run}-0" }}'
        return httpx.get(f"{TEMPO}/api/search", params={"q": query}).json().get("traces")

    assert wait_for(found_by_tag)

    def sums() -> dict[str, float]:
        query = (
            f'{{ resource.service.name = "{run}" && span.gen_ai.usage.cost != nil }} '
            "| sum_over_time(span.gen_ai.usage.cost) by (span.attribution.feature)"
        )
        now = int(time.time())
        asked = {"q": query, "start": now - 600, "end": now + 60}
        answer = httpx.get(f"{TEMPO}/api/metrics/query", params=asked).json()
        series = {
            label["value"]["stringValue"]: entry["value"]
            for entry in answer.get("series", [])
            for label in entry["labels"]
            if label["key"] == "span.attribution.feature"
        }
        return series if len(series) == len(expected) else {}

    seen = wait_for(sums)
    for feature, amount in expected.items():
        assert seen[feature] == pytest.approx(float(amount), rel=1e-9)
