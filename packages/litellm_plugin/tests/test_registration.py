"""How the callback comes into LiteLLM's lists, and stays there."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from typing import TYPE_CHECKING

import pytest
from litellm_bench import lite

from farthing_litellm import FarthingLogger
from farthing_litellm.attempts import Attempt, left
from farthing_litellm.versions import UnsupportedLiteLLMError, require_supported

if TYPE_CHECKING:
    from litellm_bench import Bench


def both(bench: Bench) -> None:
    """Make a sync and an async call."""
    lite.completion(**bench.openai())
    asyncio.run(lite.acompletion(**bench.openai()))


def test_registered_twice_is_one_bill(bench: Bench) -> None:
    """The same instance in two lists would bill each call twice."""
    logger = FarthingLogger(feature="x")
    lite.callbacks = [logger, logger]
    lite.success_callback = [logger]
    lite.input_callback.append(logger)
    both(bench)
    assert len(bench.settled(duplicates=None)) == 2


def test_two_instances_merge_their_tags(bench: Bench) -> None:
    """Two instances would make two bills, or the tags of one would be lost."""
    lite.callbacks = [FarthingLogger(feature="first"), FarthingLogger(feature="second", team="web")]
    both(bench)
    bench.captured.calls  # noqa: B018 - flushes, so that every event has come
    calls = bench.settled(duplicates=None)
    assert len(calls) == 2
    assert {(call.attribution.feature, call.attribution.team) for call in calls} == {("first", "web")}


def test_stays_when_somebody_empties_the_list(bench: Bench) -> None:
    """CrewAI empties `litellm.callbacks`: before the first call nothing would be left of us."""
    lite.callbacks = [FarthingLogger(feature="x")]
    lite.callbacks = []
    both(bench)
    assert len(bench.settled()) == 2


def test_success_callback_alone_sees_async_calls(bench: Bench) -> None:
    """LiteLLM calls what is only in `success_callback` for sync calls alone."""
    lite.success_callback = [FarthingLogger(feature="x")]
    both(bench)
    assert len(bench.settled()) == 2


def test_callback_of_one_call(bench: Bench) -> None:
    """LiteLLM makes a per-call callback a global one: the next call would be billed twice or not at all."""
    logger = FarthingLogger(feature="x")
    lite.completion(**bench.openai(callbacks=[logger]))
    lite.completion(**bench.openai(callbacks=[FarthingLogger(feature="x")]))
    both(bench)
    bench.captured.calls  # noqa: B018 - as above
    assert len(bench.settled(duplicates=None)) == 4


def test_unregister(bench: Bench) -> None:
    """What was registered could never be taken back."""
    logger = FarthingLogger(feature="x")
    lite.callbacks = [logger]
    lite.completion(**bench.openai())
    bench.settled()
    logger.unregister()
    lite.completion(**bench.openai())
    assert len(bench.captured.calls) == 1


def test_fault_of_ours_never_reaches_the_application(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in an extractor would break the user's call."""
    lite.callbacks = [FarthingLogger(feature="x")]

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("ours")

    monkeypatch.setattr("farthing_litellm.extract.answered", broken)
    lite.completion(**bench.openai())
    asyncio.run(lite.acompletion(**bench.openai()))
    bench.captured.calls  # noqa: B018 - flushes
    assert sum(bench.captured.health.faults.values()) >= 2


def test_attempt_survives_what_other_callbacks_do_to_the_dict() -> None:
    """Others copy, pickle and dump LiteLLM's dict: a copy of ours would end the call when it dies."""
    attempt = Attempt(
        call_id="c", mark=None, started_ns=1, number=1, operation_id=None, may_go_unreported=False, cause=None
    )
    assert copy.copy(attempt) is copy.deepcopy(attempt) is attempt
    assert pickle.loads(pickle.dumps(attempt)) == repr(attempt)  # noqa: S301 - our own bytes
    assert json.loads(json.dumps({"a": attempt}, default=str)) == {"a": "<farthing attempt 1>"}
    attempt.ended = True
    left.clear()
    del attempt
    assert not left


@pytest.mark.parametrize("version", ["1.99.9", "1.9", "0.1", "nonsense"])
def test_old_litellm_is_refused(version: str) -> None:
    """An old LiteLLM would fail somewhere in the middle, or bill wrongly in silence."""
    with pytest.raises(UnsupportedLiteLLMError, match=r"needs litellm >= .*pip install"):
        require_supported(version)


def test_new_litellm_is_accepted() -> None:
    """A pre-release or a dev version would be refused."""
    assert require_supported("1.100.5rc1")[:3] == (1, 100, 5)
