"""The policy of a company: each rule violated alone and all together, limits, reload, and what is refused."""

from __future__ import annotations

import os
import time
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farthing
from farthing import setup
from farthing.policy import INVALID, OVERFLOW, Layer, Policy, PolicyDocument, Verdict
from farthing.runs import Finish
from farthing.settings import load_settings
from farthing.testing import capture

if TYPE_CHECKING:
    from collections.abc import Mapping

    from farthing.envelope import Call

COMPANY = """
extra_dimensions = ["cost_center"]

[policy.environments.production]
required = ["feature", "team"]
when_missing = "reject"

[policy.environments."*"]
required = ["feature"]
when_missing = "mark"
defaults = { team = "platform-sandbox" }

[[policy.routes]]
pattern = "api/public/*"
required = ["tenant"]
when_missing = "warn"

[policy.dimensions.environment]
aliases = { prod = "production", live = "prod" }

[policy.dimensions.team]
values = ["growth", "platform-sandbox", "Search Team"]
when_unlisted = "reject"

[policy.dimensions.feature]
aliases = { mailer = "email-generator" }
max_length = 40

[[policy.renames]]
dimension = "feature"
from = "email-generator"
to = "email-writer"
on = 2026-03-01

[policy.guards]
max_words = 5
"""


def company() -> Policy:
    """Read the policy above as a process would."""
    Path("farthing.toml").write_text(COMPANY, encoding="utf-8")
    settings = load_settings({}, environ={})
    return Policy(extra_dimensions=settings.extra_dimensions, aliases=settings.aliases, document=settings.policy)


def decide(tags: Mapping[str, object], *, policy: Policy | None = None, day: date | None = None) -> Verdict:
    """Decide one set of tags."""
    return (policy or company()).resolve([Layer("attribute", tags, strict=True)], day=day)


def call(tags: Mapping[str, object], key: object = "k") -> None:
    """Record one call with a known cost."""
    meter = setup.get_meter()
    assert meter is not None
    with farthing.attribute(**tags):  # pyright: ignore[reportArgumentType] - hostile ones among them
        meter.start_call(("t", key), framework="test", operation="chat", provider="openai", model="gpt-4o")
    usage = {"input_tokens": 1000, "output_tokens": 0}
    meter.finish_call(("t", key), Finish(time.time_ns(), usage=usage, usage_shape="langchain"))


def test_required_dimensions_by_environment() -> None:
    """Production refuses what a sandbox only marks, and a sandbox has an owner by default."""
    sandbox = decide({"environment": "dev"})
    assert sandbox.violations == ("feature:missing",)
    assert sandbox.refusals == ()
    assert sandbox.attribution.team == "platform-sandbox"
    assert sandbox.sources["team"] == "policy"
    production = decide({"environment": "production"})
    assert production.violations == ("feature:missing", "team:missing")
    assert [each.dimension for each in production.refusals] == ["feature", "team"]
    assert "[policy.environments.production] requires it" in production.refusals[0].sentence


def test_aliases_of_values_go_all_the_way() -> None:
    """`live` means prod means production; the rules of production must hold for it."""
    verdict = decide({"environment": "live"})
    assert verdict.attribution.environment == "production"
    assert verdict.refusals


def test_a_route_requires_more() -> None:
    """Customer-facing routes need a tenant; others do not."""
    public = decide({"route": "API/public/chat", "feature": "a"})
    assert public.violations == ("tenant:missing",)
    assert [each.action for each in public.complaints] == ["warn"]
    assert decide({"route": "api/internal", "feature": "a"}).violations == ()


def test_a_closed_vocabulary_says_what_was_meant() -> None:
    """A misspelt team is a team of its own in every report; the value stays, the sentence names the right one."""
    verdict = decide({"feature": "a", "team": "Grwth"})
    assert verdict.attribution.team == "grwth"
    assert verdict.violations == ("team:unlisted",)
    assert "did you mean 'growth'?" in verdict.refusals[0].sentence
    assert "it takes: growth, platform-sandbox, search-team" in decide({"feature": "a", "team": "xyz"}).refusals[0][3]
    assert decide({"feature": "a", "team": "search_team"}).violations == ()


def test_a_rename_begins_on_its_day() -> None:
    """A call of February keeps its name, one of March has the new one, and an alias follows."""
    policy = company()
    for written in ("email generator", "mailer"):
        before = decide({"feature": written}, policy=policy, day=date(2026, 2, 28))
        after = decide({"feature": written}, policy=policy, day=date(2026, 3, 1))
        assert (before.attribution.feature, after.attribution.feature) == ("email-generator", "email-writer")
    renamed = policy.vocabulary.renamed
    assert renamed(date(2026, 2, 28))["feature"] == {"mailer": "email-generator"}
    assert renamed(date(2026, 3, 1))["feature"] == {"mailer": "email-writer", "email-generator": "email-writer"}


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("user_id", "alice@example.com", "email"),
        ("tenant", "ops <alice@example.co.uk>", "email"),
        ("feature", "sk-proj-abcdefghijklmnopqrstuvwx", "secret"),
        ("tenant", "sk_live_abcdefghijklmnopqrstuvwx", "secret"),
        ("session_id", "AKIAIOSFODNN7EXAMPLE", "secret"),
        ("session_id", "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0In0.x", "secret"),
        ("team", "Bearer abcdefghijklmnop", "secret"),
        ("tenant", "+49 30 1234567", "phone"),
        ("tenant", "(555) 123-4567", "phone"),
        ("user_id", "555-123-4567", "phone"),
        ("feature", "please write a short poem about the sea", "free-text"),
        ("feature", "Hello. My name is", "free-text"),
        ("feature", '{"role": "user"}', "free-text"),
        ("feature", "x" * 41, "too-long"),
        ("feature", b"\xff\xfe", "not-text"),
        ("feature", "a\x00b", "not-printable"),
    ],
)
def test_what_must_not_be_a_tag_is_replaced(name: str, value: object, reason: str) -> None:
    """A person, a key or a prompt in a tag would stand in every backend for years."""
    verdict = decide({"feature": "a"} | {name: value})
    assert dict(verdict.attribution.items())[name] == INVALID
    assert f"{name}:{reason}" in verdict.violations
    assert str(value) not in repr(verdict)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tenant", "1234567890"),
        ("tenant", "acme-2026-11-24"),
        ("job_id", "2026-11-24-0001"),
        ("session_id", "6f1c9d2e-1f0b-4c39-8e51-0a8f5a3f2b11"),
        ("user_id", "u_42"),
        ("route", "api/<int:tenant>/chat/{id}"),
        ("feature", "risk-analysis-for-new-markets"),
        ("task_type", "skill-extraction-and-ranking"),
    ],
)
def test_what_only_looks_like_it_stays(name: str, value: str) -> None:
    """A guard that eats ids makes people switch guards off."""
    verdict = decide({"feature": "a"} | {name: value})
    assert dict(verdict.attribution.items())[name] == value
    assert verdict.violations == ()


def test_a_filled_in_route_becomes_its_template() -> None:
    """A route a user would be a metric label a user."""
    verdict = decide({"feature": "a", "route": "users/48151623/docs/6f1c9d2e-1f0b-4c39-8e51-0a8f5a3f2b11"})
    assert verdict.attribution.route == "users/{id}/docs/{id}"
    assert verdict.violations == ("route:filled-in",)


def test_vague_values_and_too_many_tags_are_marked() -> None:
    """`misc` is the most expensive feature of every company that allows it."""
    assert decide({"feature": "Misc"}).violations == ("feature:vague",)
    crowd = {f"x{number}": "y" for number in range(100)} | {"feature": "late"}
    verdict = decide(crowd)
    assert "(tags):too-many" in verdict.violations
    assert len(verdict.violations) < 70


def test_user_ids_leave_only_as_keyed_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same user must stay the same, and be nobody; without a key nothing may pass."""
    document = PolicyDocument.model_validate({"hashing": {"dimensions": ["user"]}})
    policy = Policy(document=document, hash_key=b"0123456789abcdef")
    first, again = (decide({"user_id": "alice@example.com"}, policy=policy).attribution.user_id for _ in range(2))
    assert first is not None
    assert first == again
    assert first.startswith("h_")
    assert decide({"user_id": first}, policy=policy).attribution.user_id == first
    other = Policy(document=document, hash_key=b"another key here")
    assert decide({"user_id": "alice@example.com"}, policy=other).attribution.user_id != first
    bare = decide({"user_id": "alice@example.com"}, policy=Policy(document=document))
    assert (bare.attribution.user_id, bare.violations) == (INVALID, ("user_id:no-hash-key",))
    monkeypatch.setenv("FARTHING_HASH_KEY", "short")
    with pytest.raises(farthing.ConfigurationError, match="FARTHING_HASH_KEY: is too short"):
        farthing.configure(policy={"hashing": {"dimensions": ["user_id"]}})


def test_all_rules_violated_together_keep_the_call_and_its_cost() -> None:
    """Whatever somebody writes as tags, the money was spent and must be in the total."""
    Path("farthing.toml").write_text(COMPANY, encoding="utf-8")
    hostile: dict[str, object] = {
        "feature": "write a poem about the sea now",
        "team": "grwth",
        "tenant": "alice@example.com",
        "environment": "live",
        "route": "api/public/123456",
        "user_id": "sk-proj-abcdefghijklmnopqrstuvwx",
        "task_type": "misc",
        "colour": "red",
        "session_id": object(),
        "cost_center": "y" * 500,
    }
    with capture() as captured:
        call(hostile)
        found = captured.calls
    assert [each.cost.amount_usd for each in found] == [Decimal("0.0025")]
    assert set(found[0].violations) == {
        "colour:undeclared",
        "feature:free-text",
        "feature:missing",
        "team:unlisted",
        "tenant:email",
        "tenant:missing",
        "route:filled-in",
        "user_id:secret",
        "task_type:vague",
        "session_id:not-text",
        "cost_center:too-long",
    }


def test_ten_thousand_values_share_a_visible_name(caplog: pytest.LogCaptureFixture) -> None:
    """An id used as a feature must not blow up the backend, nor lose a cent; tenants are as many as there are."""
    with capture() as captured:
        for number in range(10_000):
            call({"feature": f"f-{number}", "tenant": f"t-{number}"}, number)
        assert farthing.flush(timeout=60)
        found = captured.calls
        health = captured.health
    assert len(found) == 10_000
    assert sum((each.cost.amount_usd or Decimal(0) for each in found), Decimal(0)) == Decimal(25)
    features = [each.attribution.feature for each in found]
    assert len(set(features)) == 201
    assert features.count(OVERFLOW) == 9_800
    assert len({each.attribution.tenant for each in found}) == 10_000
    assert health.violations == {"feature:overflow": 9_800}
    assert caplog.text.count("feature has more than 50 values") == 1
    assert caplog.text.count("feature has more than 200 values") == 1


def test_what_is_warned_of_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    """A warning a call would be switched off with the logger."""
    with capture(policy={"environments": {"*": {"required": ["feature"], "when_missing": "warn"}}}) as captured:
        for number in range(3):
            call({}, number)
        assert captured.health.violations == {}
        found = captured.calls
        assert [each.violations for each in found] == [("feature:missing",)] * 3
        assert captured.health.violations == {"feature:missing": 3}
    assert caplog.text.count("feature is missing") == 1


@given(
    st.dictionaries(
        st.sampled_from(["feature", "team", "tenant", "route", "user_id", "environment", "owner", "cost-center"])
        | st.text(max_size=40),
        st.text(max_size=300) | st.integers() | st.none() | st.binary() | st.sampled_from(["live", "mailer", "a@b.cd"]),
    )
)
def test_any_tags_give_a_verdict_under_a_policy(written: dict[str, object]) -> None:
    """Nothing anybody writes may raise, and what passed once passes again unchanged."""
    document = PolicyDocument.model_validate(
        {
            "environments": {"*": {"required": ["feature"], "defaults": {"team": "x"}}},
            "dimensions": {"feature": {"aliases": {"mailer": "email"}}, "environment": {"aliases": {"live": "prod"}}},
        }
    )
    policy = Policy(document=document)
    first = policy.resolve([Layer("attribute", written, strict=True)])
    again = policy.resolve([Layer("attribute", dict(first.attribution.items()), strict=True)])
    assert again.attribution == first.attribution


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ('[policy.environments.production]\nrequired = ["teem"]', ["policy.environments.production.required", "team"]),
        (
            '[policy.environments.production]\nrequird = ["team"]',
            ["'policy.environments.production.requird'", "required"],
        ),
        ('[policy.environments.production]\nwhen_missing = "block"', ["when_missing", "'mark', 'warn' or 'reject'"]),
        ('[policy.dimensions.feature]\nvalues = "a"', ["policy.dimensions.feature.values", 'must be a list: ["..."]']),
        ('[policy.dimensions.colour]\nvalues = ["a"]', ["policy.dimensions", "'colour'", "extra_dimensions"]),
        (
            '[policy.dimensions.feature.aliases]\na = "b"\nb = "c"\nc = "a"',
            ["farthing.toml", "circle", "'a' -> 'b' -> 'c' -> 'a'"],
        ),
        (
            """
            [policy]
            renames = [
              {dimension = "feature", from = "a", to = "b", on = 2026-01-01},
              {dimension = "feature", from = "a", to = "c", on = 2026-01-01},
            ]
            """,
            ["'a' is to become 'b' and 'c'"],
        ),
        (
            '[[policy.renames]]\ndimension = "feature"\nfrom = "a"\nto = "b"\non = "soon"',
            ["policy.renames[1].on: must be a day: 2026-01-31", "soon"],
        ),
        ('[aliases]\nteam = "feature"', ["aliases", "'team' is a dimension itself"]),
        ("[policy.guards]\nemial = true", ["policy.guards.emial", "did you mean 'email'"]),
        ("policy = 3", ["policy: must be a table (given: 3)"]),
        ("[[policy.routes]]\nrequired = []", ["policy.routes[1].pattern: is missing"]),
        ("[policy.dimensions.team]\nvalues = []", ["policy.dimensions.team.values: is empty"]),
        ('[policy.dimensions.team]\nvalues = ["a@b.cd"]', ["'a@b.cd' looks like an e-mail address"]),
        (
            '[policy.dimensions.team]\nvalues = ["growth"]\n[policy.environments."*"]\ndefaults = { team = "grwth" }',
            ["policy.environments.*.defaults.team: 'grwth' is not among", "did you mean 'growth'?"],
        ),
        (
            '[policy.dimensions.team]\nvalues = ["growth"]\naliases = { g = "else" }',
            ["policy.dimensions.team.aliases: 'else' is not among", "add it to policy.dimensions.team.values"],
        ),
        (
            "[policy.environments.production]\n[policy.environments.Production]",
            ["policy.environments.Production: there is a table for production already"],
        ),
        ('[policy.corroboration]\nhosts = ["http://x"]', ["hosts[1]: must be a host without scheme"]),
        ('[policy.gateway.headers]\n"x ai" = "team"', ["must be the name of a header"]),
    ],
)
def test_a_bad_policy_is_refused_by_key_and_fix(text: str, parts: list[str]) -> None:
    """Who mistypes a rule must hear it where it is read, not from a rule that never fires."""
    Path("farthing.toml").write_text(text, encoding="utf-8")
    with pytest.raises(farthing.ConfigurationError) as refused:
        farthing.configure()
    for part in parts:
        assert part in str(refused.value)


def rewrite(text: str) -> None:
    """Change the file so that even a coarse clock sees it, and let the worker look."""
    path = Path("farthing.toml")
    path.write_text(text, encoding="utf-8")
    later = datetime.now(UTC) + timedelta(seconds=len(text))
    os.utime(path, (later.timestamp(), later.timestamp()))
    assert farthing.flush()


def violations(found: list[Call]) -> list[tuple[str, ...]]:
    """Give what each call violates."""
    return [each.violations for each in found]


def test_the_file_is_read_again_without_a_restart(caplog: pytest.LogCaptureFixture) -> None:
    """A rule changed at noon must hold at noon; a broken file must change nothing, and be said."""
    Path("farthing.toml").write_text("", encoding="utf-8")
    with capture() as captured:
        call({}, 1)
        assert farthing.flush()
        rewrite('[policy.environments."*"]\nrequired = ["feature"]')
        call({}, 2)
        assert violations(captured.calls) == [(), ("feature:missing",)]
        rewrite('[policy.environments."*"\nrequired = [')
        call({}, 3)
        assert violations(captured.calls)[2] == ("feature:missing",)
        assert "stays in force" in caplog.text
        assert "not valid TOML" in (captured.health.last_error or "")
        rewrite('[policy.environments."*"]\nrequired = ["teem"]')
        call({}, 4)
        assert violations(captured.calls)[3] == ("feature:missing",)
        assert "did you mean 'team'?" in caplog.text
        rewrite('[policy.environments."*"]\nrequired = ["team"]')
        call({}, 5)
        assert violations(captured.calls)[4] == ("team:missing",)
        Path("farthing.toml").unlink()
        assert farthing.flush()
        call({}, 6)
        assert violations(captured.calls)[5] == ("team:missing",)
        assert "cannot be read" in caplog.text


def test_a_policy_that_refuses_everything_can_be_mended() -> None:
    """Where no call goes out there is no event, and only the worker reads the file again."""
    path = Path("farthing.toml")
    path.write_text('[policy.environments."*"]\nrequired = ["feature"]\nwhen_missing = "reject"', encoding="utf-8")
    with pytest.raises(farthing.AttributionError):
        farthing.require()
    path.write_text("", encoding="utf-8")
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            farthing.require()
        except farthing.AttributionError:
            time.sleep(0.1)
        else:
            break
    farthing.require()


def test_a_key_in_the_file_is_not_repeated_in_the_log() -> None:
    """The sentence about a file that cannot be used is logged where the file is read again."""
    text = '[policy.environments."*".defaults]\nteam = "sk-proj-0123456789abcdefghij"'
    Path("farthing.toml").write_text(text, encoding="utf-8")
    with pytest.raises(farthing.ConfigurationError, match=r"'sk-p\.\.\.' looks like a key") as refused:
        farthing.configure()
    assert "0123456789" not in str(refused.value)


def test_a_value_that_was_refused_is_not_called_missing() -> None:
    """Who sent one would look for it on the way, and not at it."""
    for sent, said in (("a@b.example", "looks like an e-mail address"), ("x" * 300, "longer than max_length")):
        expected = pytest.raises(farthing.AttributionError, match=f"feature was sent, but its value .*{said}")
        with expected as refused, farthing.attribute(feature=sent):
            farthing.require("feature")
        assert refused.value.problems == ("feature:missing",)


def test_a_rename_that_has_not_begun_changes_nothing_yet() -> None:
    """What is shown, refused or written for a provider before the first call would go by next year's names."""
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date()
    rename = {"dimension": "feature", "from": "mailer", "to": "email-generator", "on": tomorrow}
    policy = Policy(document=PolicyDocument.model_validate({"renames": [rename]}))
    layers = [Layer("call", {"feature": "mailer"}, strict=True)]
    assert policy.resolve(layers).attribution.feature == "mailer"
    assert policy.resolve(layers, day=tomorrow).attribution.feature == "email-generator"
    assert policy.resolve(layers).attribution.feature == "mailer"


def test_a_changed_file_is_no_contradiction() -> None:
    """Two modules that call configure() alike must not quarrel because the file changed between them."""
    Path("farthing.toml").write_text("", encoding="utf-8")
    farthing.configure(service_name="a")
    Path("farthing.toml").write_text('[policy.environments."*"]\nrequired = ["team"]', encoding="utf-8")
    farthing.configure(service_name="a")
    with pytest.raises(farthing.ConfigurationError, match="already configured with other values of policy"):
        farthing.configure(service_name="a", policy={"max_tags": 3})


def test_require_refuses_what_is_missing_and_says_how_to_send_it() -> None:
    """For a call that no plugin sees this is the only gate; the person who reads it must know what to write."""
    with pytest.raises(farthing.AttributionError) as refused, farthing.attribute(team="growth"):
        farthing.require("feature", "team")
    assert refused.value.problems == ("feature:missing",)
    assert 'farthing.attribute(feature="...")' in str(refused.value)
    with farthing.attribute(feature="a", team="growth"):
        farthing.require("feature", "team")
    farthing.require()
    with pytest.raises(farthing.AttributionError, match="'colour' is no dimension"):
        farthing.require("colour")
    assert farthing.health().refused == {"feature:missing": 1, "colour:undeclared": 1}


def test_require_without_names_asks_the_policy() -> None:
    """One line before every provider call must be enough to have the file's rules."""
    Path("farthing.toml").write_text(COMPANY, encoding="utf-8")
    with farthing.attribute(environment="production", feature="a", team="growth"):
        farthing.require()
    with pytest.raises(farthing.AttributionError, match="team is missing"), farthing.attribute(env="prod", feature="a"):
        farthing.require()
    with pytest.raises(farthing.AttributionError, match="mean 'growth'"), farthing.attribute(feature="a", team="groth"):
        farthing.require()


def test_enforcement_has_one_switch(monkeypatch: pytest.MonkeyPatch) -> None:
    """At three in the morning somebody must be able to let calls through without touching the policy."""
    Path("farthing.toml").write_text(COMPANY, encoding="utf-8")
    meter = setup.get_meter()
    assert meter is not None
    assert meter.enforcing
    setup.shutdown()
    monkeypatch.setenv("FARTHING_ENFORCE", "false")
    meter = setup.get_meter()
    assert meter is not None
    assert not meter.enforcing
    with farthing.attribute(environment="production"):
        farthing.require()


def test_without_a_policy_nothing_is_enforced() -> None:
    """Enforcement is what somebody switched on, never a default."""
    meter = setup.get_meter()
    assert meter is not None
    assert not meter.enforcing
    meter.require(how="")


def test_a_table_may_name_its_dimension_by_any_spelling() -> None:
    """`[policy.dimensions.team_id]` would be read, accepted, and never hold."""
    Path("farthing.toml").write_text(
        '[aliases]\nsquad = "feature"\n'
        '[policy.dimensions.team_id]\nvalues = ["growth"]\nwhen_unlisted = "reject"\nmax_length = 7\n'
        '[policy.dimensions.squad]\nvalues = ["a"]\nwhen_unlisted = "reject"\n'
        '[[policy.renames]]\ndimension = "squad"\nfrom = "old"\nto = "a"\non = 2020-01-01\n',
        encoding="utf-8",
    )
    settings = load_settings({}, environ={})
    policy = Policy(aliases=settings.aliases, document=settings.policy)
    verdict = decide({"team": "grwth", "feature": "b"}, policy=policy)
    assert {each.dimension for each in verdict.refusals} == {"team", "feature"}
    assert decide({"team": "too-long"}, policy=policy).violations == ("team:too-long",)
    assert decide({"team": "growth", "squad": "old"}, policy=policy).attribution.feature == "a"
    with Path("farthing.toml").open("a", encoding="utf-8") as file:
        file.write('[policy.dimensions.team]\nvalues = ["x"]\n')
    with pytest.raises(farthing.ConfigurationError, match=r"policy.dimensions.team: there is a table for team already"):
        load_settings({}, environ={})


def test_rules_hold_for_every_spelling_of_what_they_name() -> None:
    """A rule that compares letter by letter is accepted, and never fires."""
    document = PolicyDocument.model_validate(
        {
            "dimensions": {
                "environment": {"aliases": {"prod": "production"}},
                "feature": {"vague": ["Some Thing"]},
            },
            "routes": [{"pattern": "/API/public/*", "environments": ["Prod"], "required": ["tenant"]}],
        }
    )
    policy = Policy(document=document)
    for route in ("api/public/x", "/api/public/x", "API/Public/x"):
        assert "tenant:missing" in decide({"route": route, "environment": "PROD"}, policy=policy).violations
    assert decide({"route": "api/public/x", "environment": "test"}, policy=policy).violations == ()
    assert decide({"feature": "some_thing"}, policy=policy).violations == ("feature:vague",)


@pytest.mark.parametrize("bom", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("name", ["farthing.toml", "pyproject.toml"])
def test_files_of_other_systems_are_read(name: str, bom: bytes, end: bytes) -> None:
    """Notepad writes a mark before the first character and two at the end of a line."""
    table = b"tool.farthing." if name == "pyproject.toml" else b""
    text = b"[" + table + b'policy.environments.production]\nrequired = ["feature"]\n'
    Path(name).write_bytes(bom + text.replace(b"\n", end))
    assert load_settings({}, environ={}).policy.environments["production"].required == ("feature",)
    assert load_settings({}, environ={}, path=Path(name)).policy.environments["production"].required == ("feature",)


def test_letters_that_look_alike_are_one_value_or_marked() -> None:
    """Two rows of a report that nobody can tell apart are worse than a misspelling."""
    spellings = (
        "caf\u00e9",
        "cafe\u0301",
        "CAFE\u0301",
        "ca\u200bf\u00e9",
        "\uff43\uff41\uff46\u00e9",
        "\u202ecaf\u00e9",
    )
    for written in spellings:
        assert decide({"feature": written}, policy=Policy()).attribution.feature == "caf\u00e9"
    assert decide({"feature": "p\u0430ypal"}, policy=Policy()).violations == ("feature:mixed-scripts",)
    for plain in ("\u0430\u0431\u0432", "\u65e5\u672c-x1", "stra\u00dfe", "\u03b1-\u03b2"):
        assert decide({"feature": plain}, policy=Policy()).violations == ()
    document = PolicyDocument.model_validate(
        {"dimensions": {"feature": {"values": ["paypal"], "when_unlisted": "warn"}}}
    )
    complaint = decide({"feature": "p\u0430ypal"}, policy=Policy(document=document)).complaints[0]
    assert r"'p\u0430ypal'" in complaint.sentence
    assert "did you mean 'paypal'?" in complaint.sentence


def test_a_long_vocabulary_still_knows_what_was_meant() -> None:
    """Ten thousand names must not be compared letter by letter on the way to the provider."""
    values = [f"{word}-{number}" for word in ("alpha", "beta") for number in range(5_000)]
    document = PolicyDocument.model_validate({"dimensions": {"feature": {"values": values, "when_unlisted": "reject"}}})
    policy = Policy(document=document)
    (refusal,) = decide({"feature": "alhpa-4999"}, policy=policy).refusals
    assert "did you mean 'alpha-" in refusal.sentence
    (refusal,) = decide({"feature": "entirely-else"}, policy=policy).refusals
    assert "and 9988 more" in refusal.sentence
    assert decide({"feature": "beta-4711"}, policy=policy).violations == ()
