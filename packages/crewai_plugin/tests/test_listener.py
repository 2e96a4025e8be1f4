"""The listener on CrewAI's real event bus, and what it says about its surroundings."""

# pyright: reportPrivateUsage=false
from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest
from crewai.events.event_bus import crewai_event_bus
from crewai.events.types.llm_events import LLMCallCompletedEvent, LLMCallStartedEvent, LLMCallType, LLMStreamChunkEvent
from crewai_bench import SECRET, Bench, agent, alone, crew, llm, open_runs, scopes, task, tracked

import farthing
import farthing_crewai
from farthing import runs, setup
from farthing.errors import FarthingError
from farthing_crewai import UnsupportedCrewAIError, listener
from farthing_crewai.versions import require_supported

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def bridge(monkeypatch: pytest.MonkeyPatch) -> Iterator[listener._Bridge]:
    """Give the one bridge, as if it had not warned yet."""
    monkeypatch.setattr(listener._bridge, "_has_warned", False)
    yield listener._bridge
    assert not listener._bridge.is_listening


def test_public_names() -> None:
    """A name that users import would be gone."""
    names = ["CallRefusedError", "FarthingListener", "ProviderTags", "UnsupportedCrewAIError"]
    assert sorted(farthing_crewai.__all__) == names


@pytest.mark.parametrize(
    ("installed", "lack"),
    [
        ("1.14.6", "no response ids"),
        ("1.13.0", "no response ids"),
        ("1.12.2", "no token usage"),
        ("0.203.2", "no token usage"),
    ],
)
def test_old_crewai_is_refused_with_what_it_lacks(installed: str, lack: str) -> None:
    """A version without the figures would yield unpriced calls without a word."""
    with pytest.raises(UnsupportedCrewAIError, match=lack) as caught:
        require_supported(installed)
    assert isinstance(caught.value, ImportError)
    assert isinstance(caught.value, FarthingError)
    assert "1.14.7" in str(caught.value)


@pytest.mark.parametrize("installed", ["1.14.7", "1.15.0a2", "1.15.30", "2.0"])
def test_newer_crewai_is_accepted(installed: str) -> None:
    """A pre-release or a new major version would be refused."""
    assert require_supported(installed) >= (1, 14, 7)


@pytest.mark.usefixtures("bridge")
def test_headers_that_crewai_would_send_on_are_pointed_out_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The key of the user's backend would go to CrewAI's collector without anybody noticing."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", f"x-api-key={SECRET}")
    farthing_crewai.FarthingListener().close()
    assert "OTEL_EXPORTER_OTLP_HEADERS" not in caplog.text
    for name in listener._TELEMETRY_OFF:
        monkeypatch.delenv(name, raising=False)
    for _ in range(2):
        farthing_crewai.FarthingListener().close()
    assert caplog.text.count("OTEL_EXPORTER_OTLP_HEADERS") == 1
    assert SECRET not in caplog.text


@pytest.mark.usefixtures("bridge")
def test_registered_once_and_never_for_chunks() -> None:
    """Every listener would register its handlers again, or run inside the caller for each chunk of a stream."""
    before = {kind: len(handlers) for kind, handlers in crewai_event_bus._sync_handlers.items()}
    first, second = farthing_crewai.FarthingListener(feature="a"), farthing_crewai.FarthingListener(feature="b")
    after = {kind: len(handlers) for kind, handlers in crewai_event_bus._sync_handlers.items()}
    added = {kind.__name__: count - before.get(kind, 0) for kind, count in after.items()}
    assert added["LLMCallStartedEvent"] == added["MemorySaveStartedEvent"] == added["FlowStartedEvent"] == 1
    assert max(added.values()) == 1
    assert added.get(LLMStreamChunkEvent.__name__, 0) == 0
    assert setup.settlers.count(listener._settle) == runs.outer_probes.count(listener._current_call) == 1
    first.close()
    second.close()
    assert {kind: len(handlers) for kind, handlers in crewai_event_bus._sync_handlers.items()} == before


def test_keywords_win_over_default_tags(bench: Bench) -> None:
    """Two ways to say the same would contradict each other at random."""
    made = farthing_crewai.FarthingListener(default_tags={"feature": "weak", "team": "growth"}, feature="strong")
    bench.listeners.append(made)
    llm().call(SECRET)
    (call,) = bench.settled()
    assert (call.attribution.feature, call.attribution.team) == ("strong", "growth")


def test_replayed_events_are_no_calls(bench: Bench) -> None:
    """Restoring a checkpoint tells old calls again and would bill them again."""
    bench.listen(feature="research")
    model = llm()
    usage = {"prompt_tokens": 9, "completion_tokens": 9}
    told = (
        LLMCallStartedEvent(messages=SECRET, model=model.model, call_id="old"),
        LLMCallCompletedEvent(
            response=SECRET, call_type=LLMCallType.LLM_CALL, usage=usage, model=model.model, call_id="old"
        ),
    )
    for event in told:
        crewai_event_bus.replay(model, event)
    assert bench.calls() == []
    assert (tracked(), open_runs()) == (0, 0)


def test_flush_inside_a_handler_does_not_wait_for_itself(bench: Bench) -> None:
    """A user's handler that flushes would hang until the time is out."""
    bench.listen(feature="research")
    done = threading.Event()

    def flushing(_source: object, _event: object) -> None:
        farthing.flush(timeout=30)
        done.set()

    crewai_event_bus.register_handler(LLMCallCompletedEvent, flushing)
    try:
        llm().call(SECRET)
        assert done.wait(10)
    finally:
        crewai_event_bus.off(LLMCallCompletedEvent, flushing)
    assert len(bench.settled()) == 1


def test_slow_handlers_of_others_do_not_break_the_tree(bench: Bench) -> None:
    """CrewAI runs all handlers of an event one after the other: ours may be called long after the next event."""
    bench.listen(feature="research")
    release = threading.Event()

    def slow(_source: object, _event: object) -> None:
        release.wait(0.3)

    slowed = [
        kind for kind in crewai_event_bus._sync_handlers if kind.__name__ in {"TaskStartedEvent", "FlowStartedEvent"}
    ]
    for kind in slowed:
        crewai_event_bus.register_handler(kind, slow)
    try:
        crew(task(agent(llm()))).kickoff()
    finally:
        for kind in slowed:
            crewai_event_bus.off(kind, slow)
    (call,) = bench.settled()
    assert scopes(call) == ["workflow:research", "task:look", "agent:Analyst"]


def test_switched_off(bench: Bench) -> None:
    """`enabled=False` would still meter, or break the application."""
    bench.listen(feature="research")
    farthing.shutdown()
    farthing.configure(ledger=str(bench.folder), enabled=False)
    llm().call(SECRET)
    assert bench.calls() == []
    assert tracked() == 0


def test_many_calls_leave_nothing_behind(bench: Bench) -> None:
    """A service that runs for months would keep a piece of every call."""
    bench.listen(feature="research")
    model = llm()
    for _ in range(40):
        model.call(SECRET)
    for _ in range(5):
        alone(model).kickoff(SECRET)
    assert len(bench.settled()) == 45
    assert tracked() == 0
    assert len(listener._bridge.tracker._places) < 20_000
