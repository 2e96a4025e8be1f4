"""Settings: where they come from, which wins, and the sentence that a bad one gets."""

from __future__ import annotations

from pathlib import Path

import pytest

import farthing
from farthing import setup
from farthing.settings import Settings, load_settings


def write(text: str, name: str = "farthing.toml") -> Path:
    """Put a settings file where the process looks for it."""
    path = Path.cwd() / name
    path.write_text(text, encoding="utf-8")
    return path


def test_arguments_beat_variables_beat_the_file() -> None:
    """A deployment could otherwise not override what the repository says."""
    write('service_name = "file"\nattribution_prefix = "file"\nledger = "file"\n')
    environ = {"FARTHING_SERVICE_NAME": "env", "FARTHING_ATTRIBUTION_PREFIX": "env"}
    loaded = load_settings({"service_name": "argument"}, environ=environ)
    assert (loaded.service_name, loaded.attribution_prefix, loaded.ledger) == ("argument", "env", "file")


def test_lists_and_tables_from_variables() -> None:
    """Every setting must be reachable without a file."""
    loaded = load_settings(
        {},
        environ={
            "FARTHING_EXTRA_DIMENSIONS": "cost_center, region",
            "FARTHING_DEFAULTS": "team=growth,cost_center=cc-9",
            "FARTHING_ENABLED": "false",
            "FARTHING_EXIT_TIMEOUT_SECONDS": "0.5",
        },
    )
    assert loaded.extra_dimensions == ("cost_center", "region")
    assert loaded.defaults == {"team": "growth", "cost_center": "cc-9"}
    assert loaded.enabled is False
    assert loaded.exit_timeout_seconds == 0.5


def test_pyproject_is_read_where_there_is_no_farthing_toml() -> None:
    """Many teams keep all configuration in one file."""
    write('[tool.farthing]\nservice_name = "from-pyproject"\n', "pyproject.toml")
    assert load_settings({}, environ={}).service_name == "from-pyproject"


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("ledger = [1\nx", ["farthing.toml", "not valid TOML", "line 2"]),
        ('ledgr = "x"', ["farthing.toml", "'ledgr'", "did you mean 'ledger'"]),
        ("queue_size = 1", ["farthing.toml", "queue_size", "greater than or equal to 100", "given: 1"]),
        ('[defaults]\nteem = "x"', ["farthing.toml", "defaults", "'teem'", "did you mean 'team'"]),
        ('metric_dimensions = ["colour"]', ["farthing.toml", "metric_dimensions", "'colour'", "extra_dimensions"]),
        ('extra_dimensions = ["Bad Name"]', ["farthing.toml", "extra_dimensions"]),
    ],
)
def test_a_bad_file_is_refused_by_file_key_and_fix(text: str, parts: list[str]) -> None:
    """Somebody who mistypes a key must not find out from an empty report a month later."""
    write(text)
    with pytest.raises(farthing.ConfigurationError) as refused:
        farthing.configure()
    for part in parts:
        assert part in str(refused.value)


def test_bad_variables_and_arguments_are_refused_by_name() -> None:
    """The message must name the variable, not a key that the user never wrote."""
    with pytest.raises(farthing.ConfigurationError, match=r"FARTHING_QUEUE_SIZE: queue_size: .*given: 'many'"):
        load_settings({}, environ={"FARTHING_QUEUE_SIZE": "many"})
    with pytest.raises(farthing.ConfigurationError, match="FARTHING_DEFAULTS: 'team' is no pair"):
        load_settings({}, environ={"FARTHING_DEFAULTS": "team"})
    with pytest.raises(farthing.ConfigurationError, match="unknown key 'endpoint'"):
        farthing.configure(endpoint="x")
    with pytest.raises(farthing.ConfigurationError, match=r"missing.toml: cannot be read"):
        load_settings({}, environ={"FARTHING_CONFIG": "missing.toml"})


def test_a_bad_file_never_stops_an_application_that_did_not_configure(caplog: pytest.LogCaptureFixture) -> None:
    """The first call configures by itself: a fault there is said once, and the call is recorded all the same."""
    write("ledger = [")
    farthing.shutdown()  # a framework's thread, left by another test, may just have spoken and so configured farthing
    meter = setup.get_meter()
    assert meter is not None
    assert "not valid TOML" in caplog.text
    assert "farthing.toml" in (farthing.health().last_error or "")


def test_configuring_twice_is_once_and_contradiction_is_refused() -> None:
    """Two modules that both call configure() must agree, and hear of it when they do not."""
    farthing.configure(service_name="a")
    first = setup.runtime()
    farthing.configure(service_name="a")
    assert setup.runtime() is first
    with pytest.raises(farthing.ConfigurationError, match="already configured with other values of service_name"):
        farthing.configure(service_name="b")
    assert setup.runtime() is first
    farthing.shutdown()
    farthing.configure(service_name="b")
    assert setup.runtime().settings.service_name == "b"


def test_configure_replaces_what_configured_itself() -> None:
    """An import that records something before configure() must not freeze the defaults."""
    assert setup.runtime().settings == Settings()
    farthing.configure(service_name="late")
    assert setup.runtime().settings.service_name == "late"


def test_switched_off_means_no_meter() -> None:
    """FARTHING_ENABLED=false is the way out in an emergency."""
    farthing.configure(enabled=False)
    assert setup.get_meter() is None
