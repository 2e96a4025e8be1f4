"""What LiteLLM hands over in shapes that no loopback call brings about."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest

from farthing.policy import Policy, PolicyDocument
from farthing_litellm import extract

PROXY: dict[str, Any] = {
    "user_api_key": "hashed-secret",
    "user_api_key_alias": "alice",
    "user_api_key_team_id": "team-42",
    "user_api_key_team_alias": "Growth",
    "user_api_key_user_id": "usr-1",
    "user_api_key_metadata": {"feature": "of-key", "plan": "pro"},
    "user_api_key_team_metadata": {"tags": ["tenant:of-team"]},
    "endpoint": "http://proxy/v1/chat/completions",
    "headers": {"x-feature": "of-header", "authorization": "Bearer secret"},
    "model_group": "mini",
    "model_info": {"id": "dep-1"},
}


def asked(metadata: dict[str, Any], **more: Any) -> extract.Asked:
    """Read a request with this metadata."""
    return extract.asked({"litellm_params": {"metadata": metadata}, "call_type": "acompletion", **more})


def test_proxy_knows_the_owner_of_the_key() -> None:
    """A virtual key's team would not pay, or the key itself be kept."""
    found = asked(dict(PROXY))
    assert found.weak_tags == {
        "feature": "of-key",
        "plan": "pro",
        "tenant": "of-team",
        "team": "Growth",
        "user_id": "usr-1",
    }
    assert found.details == {"model_group": "mini", "deployment": "dep-1", "key_alias": "alice"}
    assert "route" not in found.tags
    assert "endpoint" not in found.tags


def test_a_request_beats_its_key_and_the_key_is_not_read() -> None:
    """Tags of a request to a proxy would lose against those of its key, and headers not asked for would be read."""
    assert "feature" not in asked(dict(PROXY)).tags
    body = {"requester_metadata": {"tags": {"feature": "of-body"}}, "tags": ["feature:of-tags", "team:of-tags"]}
    tags = asked(PROXY | body).tags
    assert (tags["feature"], tags["team"]) == ("of-body", "of-tags")
    assert "secret" not in repr(asked(PROXY | body))


def test_many_tags_are_bounded() -> None:
    """A request with a million tags would be kept whole."""
    assert len(asked({f"name-{number}": "x" for number in range(500)}).tags) <= 64


def test_provider_that_says_what_it_charged() -> None:
    """OpenRouter bills what its usage says; a figure of LiteLLM's would be billed in its place.

    That is what a proxy on the way writes into a header, and LiteLLM into the usage that it makes of a stream.
    """
    headers = {"llm_provider-x-litellm-response-cost": 0.0123}
    response = SimpleNamespace(
        choices=[],
        usage=SimpleNamespace(prompt_tokens=10, completion_tokens=5, cost=0.01),
        _hidden_params={"additional_headers": headers},
    )
    for provider, stream, shape in (
        ("openrouter", False, "openrouter"),
        ("openrouter", True, "litellm"),
        ("openai", False, "litellm"),
    ):
        finish = extract.answered({"custom_llm_provider": provider, "stream": stream}, response, ended=1)
        assert (finish.reported_usd, finish.usage_shape) == (None, shape)


def test_batch_is_known_by_its_id() -> None:
    """A batch that is polled would be billed each time, or before it is done."""
    usage = SimpleNamespace(prompt_tokens=2000, completion_tokens=400)
    done = SimpleNamespace(id="batch_1", status="completed", usage=usage, _hidden_params={"batch_models": ["gpt-4o"]})
    found = extract.batch({"custom_llm_provider": "openai", "model": ""}, done, ended=1)
    assert found is not None
    assert (found[0], found[1].service_tier, found[1].response_model) == ("batch_1", "batch", "gpt-4o")
    done.status = "in_progress"
    assert extract.batch({}, done, ended=1) is None


@pytest.mark.parametrize(
    ("body", "shape"),
    [
        ('{"id": "x", "model": "gpt-4o", "usage": {"prompt_tokens": 1, "completion_tokens": 1}}', "openai_chat"),
        ('{"type": "message", "usage": {"input_tokens": 1, "output_tokens": 1}}', "anthropic"),
        ('{"usageMetadata": {"promptTokenCount": 1}}', "gemini"),
        ('{"usage": {"inputTokens": 1, "outputTokens": 1}}', "bedrock_converse"),
        ('{"meta": {"billed_units": {"input_tokens": 1}}}', "cohere"),
        ('{"no": "usage"}', None),
        ("{broken", None),
        ("[1]", None),
        (None, None),
    ],
)
def test_raw_answers(body: str | None, shape: str | None) -> None:
    """The body of one maker would be read with the eyes of another."""
    finish = extract.raw_answer({"original_response": body, "custom_llm_provider": "vertex_ai"}, ended=1)
    assert (None if finish is None else finish.usage_shape) == shape


def test_local_times_only_count_by_their_difference() -> None:
    """A clock change during a call would make it end before it began, or hours later."""
    start = datetime(2026, 1, 1, 12)  # noqa: DTZ001 - LiteLLM's times have no zone
    assert extract.ended_ns(1_000, start, start + timedelta(seconds=2), 10**15) == 1_000 + 2 * 10**9
    assert extract.ended_ns(1_000, start, start - timedelta(hours=1), 10**15) == 1_000
    assert extract.ended_ns(1_000, start, start + timedelta(hours=1), 5_000) == 5_000
    assert extract.ended_ns(1_000, start, datetime(2026, 1, 1, 12, tzinfo=UTC), 10**15) == 1_000
    assert extract.ended_ns(1_000, None, "later", 7) == 7


def test_no_spelling_of_a_locked_dimension_gets_past() -> None:
    """A caller who writes an alias of farthing.toml could put its bill on another team."""
    policy = Policy(
        extra_dimensions=("cost_center",),
        aliases={"squad": "team", "kst": "cost_center"},
        document=PolicyDocument.model_validate({"gateway": {"locked": ["squad", "cost-center"]}}),
    )
    for spelling in ("team", "TEAM", "team-id", "Squad", "owner"):
        found = extract.asked({"litellm_params": {"metadata": PROXY | {spelling: "ceo"}}}, policy)
        assert spelling not in found.tags
        assert found.details["forged"] == "team"
    assert (
        extract.asked({"litellm_params": {"metadata": PROXY | {"kst": "1"}}}, policy).details["forged"] == "cost_center"
    )
