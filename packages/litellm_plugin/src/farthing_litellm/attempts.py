"""One request to a provider, tied to the dict that LiteLLM passes to every event of its call.

LiteLLM reuses that dict and its call id for retries and fallbacks, so neither names an attempt; and for work that was
left (a stream nobody read on, a cancelled task) it reports nothing at all. An `Attempt` is put into the dict when the
request goes out. It is found there by whatever event comes, and it dies with the dict when none can come any more.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from itertools import count
from threading import RLock
from typing import TYPE_CHECKING, Final, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Hashable

    from farthing_litellm.extract import Told

__all__ = ["FORESEEN", "STASH", "Attempt", "Failures", "Foreseen", "Place", "left"]

STASH: Final = "farthing_attempt"
"""The key of LiteLLM's dict under which the attempt of the moment stands."""

FORESEEN: Final = "farthing_foreseen"
"""The key of LiteLLM's dict under which a call stands that its cache may answer."""

left: Final[deque[_Kept]] = deque(maxlen=100_000)
"""What stood in a dict that died before any event ended it; appended by the garbage collector."""

_numbers: Final = count(1)
_MAX_FAILURES: Final = 1_000


class _Kept:
    """Something in LiteLLM's dict that is told when the dict dies.

    Args:
        key: Names it in the meter.
    """

    __slots__ = ("ended", "key")

    def __init__(self, key: Hashable) -> None:
        self.key: Final = key
        self.ended = False

    def __del__(self) -> None:
        # Runs wherever the collector does, even under a lock of ours: it may append, which needs none, and no more.
        if not self.ended:
            left.append(self)

    # Other callbacks copy and serialise the dict: a copy of this must not die in its place.

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    def __reduce__(self) -> tuple[type[str], tuple[str]]:
        return str, (repr(self),)


class Foreseen(_Kept):
    """A call that LiteLLM's cache may answer: begun in its caller's context, where no event is fired for a hit."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__(("litellm-foreseen", next(_numbers)))

    def __repr__(self) -> str:
        return "<farthing call before the cache>"


class Attempt(_Kept):
    """One request to a provider.

    Args:
        call_id: LiteLLM's id of the call, which several attempts may share.
        mark: The object that LiteLLM made for this very request: the time of its start.
        started_ns: Nanoseconds since the epoch.
        number: Counts from 1 within the operation.
        operation_id: Of the attempts before it; None for the first.
        may_go_unreported: Whether LiteLLM may never report its end, so that the provider's own body is read at once.
        cause: Identity of the exception that was being handled when the request went out.
        key: Names it in the meter; None makes one that no other attempt has.
    """

    __slots__ = (
        "answered",
        "call_id",
        "cause",
        "ended_early",
        "mark",
        "may_go_unreported",
        "number",
        "operation_id",
        "served_tier",
        "started_ns",
        "told",
    )

    def __init__(
        self,
        *,
        call_id: object,
        mark: object,
        started_ns: int,
        number: int,
        operation_id: str | None,
        may_go_unreported: bool,
        cause: int | None,
        key: Hashable | None = None,
    ) -> None:
        super().__init__(key or ("litellm", call_id, next(_numbers)))
        self.call_id: Final = call_id
        self.mark: Final = mark
        self.started_ns: Final = started_ns
        self.number: Final = number
        self.operation_id: str | None = operation_id
        self.may_go_unreported: Final = may_go_unreported
        self.cause: Final = cause
        self.answered = False
        """Whether it brought an answer: a request that follows is another step and no other attempt."""
        self.ended_early = False
        """Whether it was ended before LiteLLM's own event, which is then no duplicate."""
        self.served_tier: str | None = None
        """What the last piece that names one named: LiteLLM (seen with 1.100) leaves it out of the whole."""
        self.told: Told | None = None
        """What the chunks of a stream told of its usage; None where they are not understood."""

    def __repr__(self) -> str:
        return f"<farthing attempt {self.number}>"


class Place(NamedTuple):
    """Where a failed attempt stood in its operation."""

    operation_id: str
    number: int


class Failures:
    """The last failed attempt of each of the Router's requests: its next attempt is a call with a new id."""

    def __init__(self) -> None:
        self._places: OrderedDict[object, Place] = OrderedDict()
        self._lock = RLock()

    def note(self, request: object, place: Place) -> None:
        """Remember a failure of a request."""
        with self._lock:
            self._places[request] = place
            if len(self._places) > _MAX_FAILURES:
                self._places.popitem(last=False)

    def take(self, request: object) -> Place | None:
        """Give the last failure of a request and forget it."""
        if not self._places:
            return None
        with self._lock:
            return self._places.pop(request, None)
