"""What every test of the workspace needs: no network but loopback, no state of the user's, a farthing that is fresh."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# A loaded machine is no finding: examples are bounded in number, not in time.
hypothesis.settings.register_profile("farthing", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("farthing")

# Before any framework is imported: nothing of theirs may ask for input, report to its vendor or fetch a price list.
os.environ.update(
    {
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_DISABLE_TRACKING": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_MODE": "PRODUCTION",
        "LANGSMITH_TRACING": "false",
        "OPENAI_API_KEY": "test-key",
        "ANTHROPIC_API_KEY": "test-key",
        "NO_COLOR": "1",
    }
)


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Run each test in an empty folder with no setting of the machine's own."""
    home: Path = tmp_path_factory.mktemp("home")
    for name in [name for name in os.environ if name.startswith(("FARTHING_", "OTEL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_STATE_HOME", str(home / "state"))
    monkeypatch.chdir(home)
    from farthing import setup  # noqa: PLC0415 - after the variables are set
    from farthing.counting import counters  # noqa: PLC0415 - as above

    setup.shutdown(timeout=5)  # a framework's thread may have spoken since the last test, and so configured farthing
    counters.reset()
    yield
    setup.shutdown(timeout=5)
    counters.reset()
