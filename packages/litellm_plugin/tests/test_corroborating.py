"""Tags in the requests themselves: what a provider gets, byte by byte, and what it must never get."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from litellm_bench import ASK, Bench, lite

import farthing
from farthing.testing import capture
from farthing.testing.provider import FakeProvider, Fault
from farthing_litellm import FarthingLogger

if TYPE_CHECKING:
    from collections.abc import Iterator

POLICY: dict[str, object] = {
    "corroboration": {
        "providers": ["openai", "anthropic", "bedrock", "vertex_ai"],
        "dimensions": ["feature", "team", "tenant"],
        "hosts": ["127.0.0.1"],
    }
}
TAGS = {"feature": "mail-maker", "team": "growth", "tenant": "acme"}
CONVERSE: dict[str, Any] = {
    "model": "bedrock/anthropic.claude-3-5-sonnet-20240620-v1:0",
    "messages": ASK,
    "aws_access_key_id": "a",
    "aws_secret_access_key": "b",
    "aws_region_name": "us-east-1",
}


def benched(policy: dict[str, object]) -> Iterator[Bench]:
    """Serve under a policy, with a logger and an owner."""
    with FakeProvider() as provider, capture(policy=policy) as captured:
        lite.callbacks = [FarthingLogger(feature="Mail Maker")]
        with farthing.attribute(team="growth", tenant="acme"):
            yield Bench(provider, captured)


@pytest.fixture
def asking() -> Iterator[Bench]:
    """Serve where tags are to be written for every provider."""
    yield from benched(POLICY)


def sent(bench: Bench) -> dict[str, Any]:
    """Give what the provider got last, without the prompt."""
    found: dict[str, Any] = json.loads(bench.provider.requests[-1].body)
    return {name: value for name, value in found.items() if name not in {"messages", "input", "contents"}}


async def ask(name: str, *, is_async: bool, **arguments: Any) -> Any:
    """Call LiteLLM in either way, the model by position as most people write it."""
    model = arguments.pop("model")
    if is_async:
        return await getattr(lite, f"a{name}")(model, **arguments)
    return getattr(lite, name)(model, **arguments)


@pytest.mark.parametrize("is_async", [False, True])
async def test_openai_gets_metadata_where_it_takes_it(asking: Bench, is_async: bool) -> None:
    """Chat completions answer 400 to metadata without store; to store for the sake of a tag is not ours to decide."""
    await ask("completion", is_async=is_async, **asking.openai())
    assert "metadata" not in sent(asking)
    await ask("completion", is_async=is_async, **asking.openai(store=True, extra_body={"x": 1}))
    assert sent(asking) == {"model": "gpt-4o-mini", "store": True, "x": 1, "metadata": TAGS}
    await ask("completion", is_async=is_async, **asking.openai(store=True, metadata={"tenant": "globex"}))
    assert sent(asking)["metadata"] == TAGS | {"tenant": "globex"}
    assert len(asking.settled()) == 3


async def test_responses_and_anthropic_messages(asking: Bench) -> None:
    """These endpoints have arguments of their own; responses are stored unless somebody says otherwise."""
    where = {"model": "openai/gpt-4o-mini", "api_base": asking.provider.openai_url, "api_key": "sk-secret"}
    lite.responses(input="x", **where)
    assert sent(asking)["metadata"] == TAGS
    await lite.aresponses(input="x", **where)
    assert sent(asking)["metadata"] == TAGS
    await lite.aresponses(input="x", store=False, **where)
    assert "metadata" not in sent(asking)
    message = {name: value for name, value in asking.anthropic(max_tokens=9).items() if name != "max_retries"}
    await lite.anthropic.messages.acreate(**message)
    assert list(sent(asking)["metadata"]) == ["user_id"]


@pytest.mark.parametrize("is_async", [False, True])
async def test_anthropic_gets_a_mark_that_is_nobodys_user(asking: Bench, is_async: bool) -> None:
    """It asks for an opaque id; our own reading of the call must not take that for a person."""
    await ask("completion", is_async=is_async, **asking.anthropic())
    mark = sent(asking)["metadata"]["user_id"]
    (call,) = asking.settled()
    assert call.attribution.user_id is None
    (line,) = (asking.captured.folder / "provider-tags.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {"provider": "anthropic", "dimension": "user_id", "sent": mark, "for": TAGS}


@pytest.mark.parametrize("is_async", [False, True])
async def test_bedrock_gets_request_metadata_on_converse(asking: Bench, is_async: bool) -> None:
    """The invoke endpoints would put it into the model's own body, and fail."""
    endpoint = {"aws_bedrock_runtime_endpoint": asking.provider.bedrock_url}
    await ask("completion", is_async=is_async, **CONVERSE, **endpoint)
    assert sent(asking)["requestMetadata"] == TAGS
    invoke = CONVERSE | endpoint | {"model": "bedrock/invoke/anthropic.claude-3-5-sonnet-20240620-v1:0"}
    await ask("completion", is_async=is_async, **invoke)
    assert "requestMetadata" not in sent(asking)


def test_vertex_gets_labels_and_gemini_none(asking: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Gemini API refuses a field that Vertex AI bills by."""
    import google.auth  # noqa: PLC0415 - only here
    from google.auth import credentials  # noqa: PLC0415 - only here

    monkeypatch.setattr(google.auth, "default", lambda **_: (credentials.AnonymousCredentials(), "p"))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    monkeypatch.setattr(credentials.AnonymousCredentials, "refresh", lambda self, _: setattr(self, "token", "t"))  # pyright: ignore[reportUnknownArgumentType, reportUnknownLambdaType]
    base = f"{asking.provider.gemini_url}/v1beta/models/gemini-2.5-flash"
    lite.completion(
        "vertex_ai/gemini-2.5-flash", ASK, api_base=base, vertex_project="p", vertex_location="europe-west4"
    )
    assert sent(asking)["labels"] == TAGS
    lite.completion("gemini/gemini-2.5-flash", ASK, api_base=asking.provider.gemini_url, api_key="k")
    assert "labels" not in sent(asking)


def test_what_the_caller_wrote_for_the_provider_stays(asking: Bench) -> None:
    """Somebody's own dashboard stands on it."""
    lite.completion(**asking.openai(store=True, extra_body={"metadata": {"mine": "1"}}))
    assert sent(asking)["metadata"] == {"mine": "1"}
    lite.completion(**asking.anthropic(user="u-1"))
    assert sent(asking)["metadata"] == {"user_id": "u-1"}
    lite.completion(**CONVERSE, aws_bedrock_runtime_endpoint=asking.provider.bedrock_url, requestMetadata={"a": "b"})
    assert sent(asking)["requestMetadata"] == {"a": "b"}
    where = {"api_base": asking.provider.openai_url, "api_key": "sk-secret"}
    lite.responses(model="openai/gpt-4o-mini", input="x", metadata={"mine": "1"}, **where)
    assert sent(asking)["metadata"] == {"mine": "1"}


@pytest.mark.parametrize(
    "chosen", [{"providers": ["openai"]}, {"providers": ["bedrock"], "hosts": ["127.0.0.1"]}, {"hosts": ["127.0.0.1"]}]
)
def test_nothing_for_a_host_or_provider_that_nobody_named(chosen: dict[str, object]) -> None:
    """A server that only speaks OpenAI's language may refuse what OpenAI takes; and who pays is not its business."""
    for bench in benched({"corroboration": chosen}):
        lite.completion(**bench.openai(store=True))
        assert sent(bench) == {"model": "gpt-4o-mini", "store": True}
        assert "growth" not in repr(bench.provider.requests)


def test_a_fallback_to_another_provider_gets_no_foreign_argument(asking: Bench) -> None:
    """OpenAI would refuse Bedrock's field, and what was to be marked would have become an error."""
    asking.provider.script(Fault(status=500))
    other = {name: value for name, value in asking.openai().items() if name != "messages"}
    lite.completion(**CONVERSE, aws_bedrock_runtime_endpoint=asking.provider.bedrock_url, fallbacks=[other])
    assert sent(asking) == {"model": "gpt-4o-mini"}


def test_a_router_writes_for_its_deployment(asking: Bench) -> None:
    """Only the Router knows which provider will be asked."""
    deployment = {name: value for name, value in asking.openai(store=True).items() if name != "messages"}
    router = lite.Router(model_list=[{"model_name": "m", "litellm_params": deployment}])
    router.completion("m", ASK)
    assert sent(asking)["metadata"] == TAGS
    asyncio.run(router.acompletion("m", ASK))
    assert sent(asking)["metadata"] == TAGS


def test_a_cache_answers_whoever_pays(asking: Bench) -> None:
    """`user` is a part of LiteLLM's cache keys: a tag in it would have every tenant buy the same answer again."""
    lite.cache = lite.Cache()
    try:
        for tenant in ("acme", "globex"):
            with farthing.attribute(tenant=tenant):
                lite.completion(**asking.anthropic(), caching=True)
                lite.completion(**asking.openai(store=True), caching=True)
        assert len(asking.provider.requests) == 2
    finally:
        lite.cache = None
