"""Who is spending: the tags in force here and now, carried by a private ContextVar.

The ContextVar is never written into outgoing headers, so no tag reaches a provider by accident. Tags are captured
by the meter when an operation starts; what happens to the context afterwards does not matter.
"""

from __future__ import annotations

import functools
import inspect
from contextvars import ContextVar, copy_context
from types import AsyncGeneratorType, CoroutineType, EllipsisType, GeneratorType, MappingProxyType
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar, cast

from farthing.dimensions import canonical_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Generator, Mapping
    from types import TracebackType

__all__ = ["attribute", "carry", "current", "enter_request"]

P = ParamSpec("P")
R = TypeVar("R")

Tag = str | None
_LATER: Final = frozenset({CoroutineType, GeneratorType, AsyncGeneratorType})
NOTHING: Final[Mapping[str, object]] = MappingProxyType({})


class _Frame:
    """The tags in force, and the frame to go back to; linked, not tokens: safe under recursion and across tasks."""

    __slots__ = ("outer", "owner", "route", "tags")

    def __init__(
        self,
        tags: Mapping[str, object],
        outer: _Frame | None,
        owner: object,
        route: Callable[[], str | None] | None = None,
    ) -> None:
        self.tags = tags
        self.outer = outer
        self.owner = owner
        self.route = route
        """Tells the route of a request that was not routed yet when the frame was entered."""


_frame: ContextVar[_Frame | None] = ContextVar("farthing_attribution", default=None)


def current() -> Mapping[str, object]:
    """Give the tags that a call started here would get from the enclosing `attribute()` blocks.

    Returns:
        A read-only mapping of dimension to value, as written (normalising comes later).

    Raises:
        Nothing.
    """
    frame = _frame.get()
    if frame is None:
        return NOTHING
    return frame.tags if frame.route is None else _routed(frame, frame.route)


def _routed(frame: _Frame, tell: Callable[[], str | None]) -> Mapping[str, object]:
    """Give the tags of a frame with the route, once the framework knows it."""
    route = tell()
    if route is None:
        return frame.tags
    frame.tags, frame.route = MappingProxyType({**frame.tags, "route": route}), None
    return frame.tags


def enter_request(tags: Mapping[str, object], *, route: Callable[[], str | None] | None = None) -> Callable[[], None]:
    """Put the tags of a request in force, for middlewares: the route may be told later, when there is one.

    Args:
        tags: Dimension to value.
        route: Tells the route's template once the framework has found it, None until then; asked on the request's way.

    Returns:
        What ends it.

    Raises:
        Nothing.
    """
    outer, owner = _frame.get(), object()
    merged = {**(NOTHING if outer is None else outer.tags), **tags}
    _frame.set(_Frame(MappingProxyType(merged), outer, owner, None if "route" in tags else route))
    return functools.partial(_leave, owner)


def _leave(owner: object, *, closed: bool = False) -> None:
    """Go back to what was in force before an owner's block, also out of blocks inside it that nobody left.

    Such a block is that of a generator which was read half-way: left in force, its tags would be those of the next
    request that the thread serves. In a foreign context there is no block of the owner, and nothing to change; a
    generator that is closed (by whom, and inside which other block, is chance) takes no block along but its own.
    """
    top = frame = _frame.get()
    while frame is not None and frame.owner is not owner:
        frame = frame.outer
    if frame is not None and (frame is top or not closed):
        _frame.set(frame.outer)


class attribute:  # noqa: N801 - reads as a verb in a with statement, as contextlib's own do
    """Say who pays for every LLM call made inside.

    Works as a context manager (`with` and `async with`) and as a decorator of functions, coroutine functions,
    generators and async generators. Blocks nest: the inner value wins, an unset dimension is inherited, None clears it.

    Args:
        feature: What the product calls the thing that spends, e.g. "email-generator".
        route: The entry point, e.g. "api/chat"; a template, never a filled-in path.
        task_type: e.g. "conversation", "classification", "extraction".
        team: Who owns the spend.
        tenant: The customer on whose behalf the call is made; an id, never a name.
        environment: e.g. "production".
        plan: The customer's plan, e.g. "free".
        user_id: An opaque id.
        session_id: An opaque id.
        job_id: The background job or batch.
        tags: Further dimensions; those that farthing.toml does not declare are counted and left out.

    Raises:
        Nothing: a tag that cannot be used is reported on the call and in `farthing.health()`.
    """

    __slots__ = ("_tags",)

    def __init__(
        self,
        *,
        feature: Tag | EllipsisType = ...,
        route: Tag | EllipsisType = ...,
        task_type: Tag | EllipsisType = ...,
        team: Tag | EllipsisType = ...,
        tenant: Tag | EllipsisType = ...,
        environment: Tag | EllipsisType = ...,
        plan: Tag | EllipsisType = ...,
        user_id: Tag | EllipsisType = ...,
        session_id: Tag | EllipsisType = ...,
        job_id: Tag | EllipsisType = ...,
        **tags: Tag,
    ) -> None:
        named = {
            "feature": feature,
            "route": route,
            "task_type": task_type,
            "team": team,
            "tenant": tenant,
            "environment": environment,
            "plan": plan,
            "user_id": user_id,
            "session_id": session_id,
            "job_id": job_id,
        }
        spelled = {canonical_name(name): value for name, value in tags.items()}
        self._tags: Mapping[str, object] = spelled | {name: value for name, value in named.items() if value is not ...}

    def __enter__(self) -> None:
        outer = _frame.get()
        merged = dict(current())
        for name, value in self._tags.items():
            if value is None:
                merged.pop(name, None)
            else:
                merged[name] = value
        route = None if outer is None or "route" in self._tags else outer.route
        _frame.set(_Frame(MappingProxyType(merged), outer, self, route))

    def __exit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        _leave(self, closed=kind is GeneratorExit)

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self,
        kind: type[BaseException] | None = None,
        error: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self.__exit__(kind, error, traceback)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        """Decorate a function of any of the four kinds, or what hands one back: a partial, a lambda, a method.

        Raises:
            TypeError: It is a class; decorate its methods.
        """
        if isinstance(function, (classmethod, staticmethod)):
            return cast("Callable[P, R]", type(function)(self(function.__func__)))  # pyright: ignore[reportUnknownMemberType, reportUnknownArgumentType]
        if inspect.isclass(function):
            raise TypeError(
                f"attribute() decorates functions, and {function.__name__} is a class: decorate its methods"
            )
        if inspect.isasyncgenfunction(function):
            return cast("Callable[P, R]", _around_async_generator(self, function))
        if inspect.isgeneratorfunction(function):
            return cast("Callable[P, R]", _around_generator(self, function))
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def coroutine(*args: P.args, **kwargs: P.kwargs) -> object:
                with self:
                    return await function(*args, **kwargs)

            return cast("Callable[P, R]", coroutine)

        @functools.wraps(function)
        def plain(*args: P.args, **kwargs: P.kwargs) -> R:
            with self:
                result = function(*args, **kwargs)
            # What runs only when it is awaited or read runs after the block: it belongs to it all the same.
            return cast("R", _later(self, result)) if type(result) in _LATER else result

        return plain


def _later(scope: attribute, result: object) -> object:
    """Take the scope along to a coroutine or generator that a plain function made or was handed."""
    if inspect.iscoroutine(result):

        async def awaited() -> object:
            with scope:
                return await result

        return awaited()
    if inspect.isgenerator(result):
        return _around_generator(scope, lambda: cast("Generator[object, object, object]", result))()
    if inspect.isasyncgen(result):
        return _around_async_generator(scope, lambda: cast("AsyncGenerator[object, object]", result))()
    return result


def _around_generator(
    scope: attribute, function: Callable[P, Generator[object, object, object]]
) -> Callable[P, Generator[object, object, object]]:
    """Enter the scope for each step, never across a yield: the consumer's own context stays untouched."""

    @functools.wraps(function)
    def generator(*args: P.args, **kwargs: P.kwargs) -> Generator[object, object, object]:
        with scope:
            inner = function(*args, **kwargs)
        step: Callable[[], object] = functools.partial(next, inner)
        while True:
            try:
                with scope:
                    value = step()
            except StopIteration as stop:
                return stop.value
            try:
                sent = yield value
            except GeneratorExit:
                with scope:
                    inner.close()
                raise
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to the inner generator
                step = functools.partial(inner.throw, error)
            else:
                step = functools.partial(inner.send, sent)

    return generator


def _around_async_generator(
    scope: attribute, function: Callable[P, AsyncGenerator[object, object]]
) -> Callable[P, AsyncGenerator[object, object]]:
    """Enter the scope for each step, never across a yield."""

    @functools.wraps(function)
    async def generator(*args: P.args, **kwargs: P.kwargs) -> AsyncGenerator[object, object]:
        with scope:
            inner = function(*args, **kwargs)
        step = inner.__anext__
        while True:
            try:
                with scope:
                    value = await step()
            except StopAsyncIteration:
                return
            try:
                sent = yield value
            except GeneratorExit:
                with scope:
                    await inner.aclose()
                raise
            except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to the inner generator
                step = functools.partial(inner.athrow, error)
            else:
                step = functools.partial(inner.asend, sent)

    return generator


def carry(function: Callable[P, R]) -> Callable[P, R]:
    """Take the context of this line along to wherever `function` will run: a thread, a pool, an executor.

    Args:
        function: What will be called elsewhere, any number of times.

    Returns:
        A function of the same signature that runs in a copy of the context captured here.

    Raises:
        Nothing of its own.
    """
    context = copy_context()

    @functools.wraps(function)
    def carried(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)

    return carried
