"""attribute(): nesting, decorating, generators, tasks and threads."""

from __future__ import annotations

import asyncio
import functools
import gc
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import farthing
from farthing.integrations.wsgi import AttributionMiddleware

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator


def tags() -> dict[str, object]:
    """Give the tags in force as a plain dict."""
    return dict(farthing.current())


def test_nesting_inner_wins_none_clears_unset_inherits() -> None:
    """A nested block would otherwise lose, keep or invent tags."""
    with farthing.attribute(feature="outer", team="growth", tenant="acme"):
        with farthing.attribute(feature="inner", tenant=None):
            assert tags() == {"feature": "inner", "team": "growth"}
        assert tags() == {"feature": "outer", "team": "growth", "tenant": "acme"}
    assert tags() == {}


def test_spellings_meet_in_one_dimension() -> None:
    """`team_id` inside `team` would otherwise stand beside it and lose or win by chance."""
    with farthing.attribute(team="a"), farthing.attribute(team_id="b", env="production"):
        assert tags() == {"team": "b", "environment": "production"}


def test_one_object_entered_twice_and_by_recursion() -> None:
    """A scope kept in a variable would otherwise restore the wrong tags."""
    scope = farthing.attribute(feature="x")

    @scope
    def down(depth: int) -> dict[str, object]:
        return tags() if depth == 0 else down(depth - 1)

    with scope, scope:
        assert down(5) == {"feature": "x"}
    assert tags() == {}


async def test_decorator_of_all_four_kinds() -> None:
    """A decorated generator would otherwise leak its tags to its consumer between steps."""
    scope = farthing.attribute(feature="f")

    @scope
    def plain() -> dict[str, object]:
        return tags()

    @scope
    async def coroutine() -> dict[str, object]:
        await asyncio.sleep(0)
        return tags()

    @scope
    def generator() -> Generator[dict[str, object], str, str]:
        sent = yield tags()
        assert sent == "hello"
        yield tags()
        return "end"

    @scope
    async def async_generator() -> AsyncGenerator[dict[str, object]]:
        yield tags()
        await asyncio.sleep(0)
        yield tags()

    assert plain() == await coroutine() == {"feature": "f"}
    steps = generator()
    assert next(steps) == {"feature": "f"}
    assert tags() == {}
    assert steps.send("hello") == {"feature": "f"}
    with pytest.raises(StopIteration) as stop:
        next(steps)
    assert stop.value.value == "end"
    async for seen in async_generator():
        assert seen == {"feature": "f"}
        assert tags() == {}


async def test_generators_pass_exceptions_and_close() -> None:
    """throw(), close() and aclose() must reach the decorated generator's own finally."""
    closed: list[dict[str, object]] = []

    @farthing.attribute(feature="f")
    def generator() -> Generator[int]:
        try:
            yield 1
        except KeyError:
            yield 2
        finally:
            closed.append(tags())

    @farthing.attribute(feature="g")
    async def async_generator() -> AsyncGenerator[int]:
        try:
            yield 1
        except KeyError:
            yield 2
        finally:
            closed.append(tags())

    steps = generator()
    next(steps)
    assert steps.throw(KeyError()) == 2
    steps.close()
    asteps = async_generator()
    await asteps.__anext__()
    assert await asteps.athrow(KeyError()) == 2
    await asteps.aclose()
    assert closed == [{"feature": "f"}, {"feature": "g"}]


async def test_concurrent_tasks_keep_their_own_tags() -> None:
    """One request's tags would otherwise be billed to another."""

    async def request(name: str) -> dict[str, object]:
        async with farthing.attribute(tenant=name):
            await asyncio.sleep(0.001)
            return tags()

    seen = await asyncio.gather(*(request(f"t{n}") for n in range(50)))
    assert seen == [{"tenant": f"t{n}"} for n in range(50)]
    assert tags() == {}


async def test_leaving_in_a_foreign_context_changes_nothing() -> None:
    """An abandoned generator is finalised in some other task: that task's tags must survive."""

    async def producer() -> AsyncGenerator[int]:
        with farthing.attribute(feature="producer"):
            yield 1
            yield 2

    async def consume() -> None:
        async for _ in producer():
            break

    await asyncio.create_task(consume())
    with farthing.attribute(feature="mine"):
        gc.collect()
        await asyncio.sleep(0)
        assert tags() == {"feature": "mine"}


def test_a_block_that_nobody_left_ends_with_the_one_around_it() -> None:
    """A generator read half-way would otherwise put its tenant on the next request that the thread serves."""

    def producer() -> Generator[int]:
        with farthing.attribute(tenant="acme"):
            yield 1
            yield 2

    kept: list[Generator[int]] = []

    def first_request(_environ: object, _start: object) -> list[bytes]:
        with farthing.attribute(feature="outer"):
            kept.append(producer())
            next(kept[0])
            assert tags() == {"feature": "outer", "tenant": "acme"}
        assert tags() == {}
        kept.append(producer())
        next(kept[1])
        return []

    AttributionMiddleware(first_request)({}, None)
    assert tags() == {}
    with farthing.attribute(feature="next"):
        for each in kept:
            each.close()
        assert tags() == {"feature": "next"}
    assert tags() == {}


def test_a_generator_that_is_closed_inside_another_block_takes_nothing_of_it_along() -> None:
    """The garbage collector closes one wherever it happens to run."""

    def producer() -> Generator[int]:
        with farthing.attribute(feature="producer"):
            yield 1

    with farthing.attribute(team="growth"):
        left = producer()
        next(left)
        with farthing.attribute(tenant="acme"):
            left.close()
            assert tags()["tenant"] == "acme"
    assert tags() == {}


def test_carry_takes_the_context_to_a_thread() -> None:
    """A raw thread starts with an empty context, and its calls would be nobody's."""
    seen: list[dict[str, object]] = []

    def work() -> None:
        seen.append(tags())

    with farthing.attribute(feature="f"):
        carried = farthing.carry(work)
        threads = [threading.Thread(target=carried), threading.Thread(target=work)]
        for thread in threads:
            thread.start()
            thread.join()
        with ThreadPoolExecutor(2) as pool:
            pool.submit(carried).result()
    assert seen == [{"feature": "f"}, {}, {"feature": "f"}]


@given(st.lists(st.dictionaries(st.sampled_from(["feature", "team", "tenant"]), st.none() | st.text("ab", max_size=2))))
def test_nested_scopes_always_restore(levels: list[dict[str, str | None]]) -> None:
    """Whatever is nested, leaving gives back exactly what was there."""
    seen: list[dict[str, object]] = [tags()]
    scopes = [farthing.attribute(**level) for level in levels]
    for scope in scopes:
        scope.__enter__()
        seen.append(tags())
    for scope in reversed(scopes):
        assert tags() == seen.pop()
        scope.__exit__()
    assert tags() == seen.pop() == {}


class Service:
    """Methods of every kind, under decorators in either order."""

    @farthing.attribute(feature="method")
    def method(self) -> dict[str, object]:
        """Give the tags in a method."""
        return tags()

    @classmethod
    @farthing.attribute(feature="class")
    def of_class(cls) -> dict[str, object]:
        """Give the tags in a class method."""
        return tags()

    @farthing.attribute(feature="class-outside")
    @classmethod
    def of_class_outside(cls) -> dict[str, object]:
        """Give the tags in a class method that was decorated last."""
        return tags()

    @farthing.attribute(feature="static-outside")
    @staticmethod
    def static_outside() -> dict[str, object]:
        """Give the tags in a static method that was decorated last."""
        return tags()


def test_methods_in_either_order_and_classes() -> None:
    """The wrong order of two decorators would fail at the first call, in production; a class would be none any more."""
    found = [Service().method(), Service.of_class(), Service.of_class_outside(), Service().static_outside()]
    assert [each["feature"] for each in found] == ["method", "class", "class-outside", "static-outside"]
    with pytest.raises(TypeError, match="Service is a class: decorate its methods"):
        farthing.attribute(feature="x")(Service)


async def test_what_a_plain_function_hands_back_runs_in_the_scope() -> None:
    """`return chain.stream(...)` does nothing before it is read, after the function has returned."""

    async def coroutine() -> dict[str, object]:
        await asyncio.sleep(0)
        return tags()

    def generator() -> Iterator[dict[str, object]]:
        yield tags()
        yield tags()

    async def async_generator() -> AsyncIterator[dict[str, object]]:
        yield tags()

    class Callable:
        async def __call__(self) -> dict[str, object]:
            return tags()

    def handed(make: Any) -> Any:
        def plain() -> object:
            return make()

        return scope(plain)()

    scope = farthing.attribute(feature="a")
    assert await handed(coroutine) == {"feature": "a"}
    assert await scope(functools.partial(coroutine))() == {"feature": "a"}
    assert await scope(Callable())() == {"feature": "a"}
    read = handed(generator)
    assert next(read) == {"feature": "a"}
    assert tags() == {}
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(next, read).result() == {"feature": "a"}
    assert [each async for each in handed(async_generator)] == [{"feature": "a"}]
    assert tags() == {}
