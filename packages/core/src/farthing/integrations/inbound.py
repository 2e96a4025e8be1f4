"""What a request may say about who pays for it: nothing, unless its receiver trusts it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from farthing.counting import counters
from farthing.dimensions import canonical_name
from farthing.policy.document import DEFAULT_HEADERS
from farthing.propagation import BAGGAGE, HEADER, parse_tags, tags_from_baggage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["Inbound"]

_MAX_HEADERS: Final = 200


class Inbound:
    """Reads the tags of a request's headers.

    Args:
        trust: Whether the sender is believed: always, never, or as a function of its headers says.
        headers: Header to dimension; None is x-ai-team, x-ai-feature, x-ai-tenant, x-ai-route, x-ai-task-type.
        baggage: Members of W3C baggage, key to dimension; none by default.
        defaults: Tags of every request, weaker than what a trusted sender says.
    """

    def __init__(
        self,
        *,
        trust: bool | Callable[[Mapping[str, str]], bool] = False,
        headers: Mapping[str, str] | None = None,
        baggage: Mapping[str, str] | None = None,
        defaults: Mapping[str, object] | None = None,
    ) -> None:
        self._trust = trust
        named = DEFAULT_HEADERS if headers is None else headers
        self._names: Final = {name.lower(): canonical_name(dimension) for name, dimension in named.items()}
        self._baggage: Final = dict(baggage or {})
        self._wanted: Final = frozenset((*self._names, HEADER, *((BAGGAGE,) if self._baggage else ())))
        self._defaults: Final = {canonical_name(name): value for name, value in (defaults or {}).items()}

    def tags(self, headers: Iterable[tuple[str, str]]) -> dict[str, object]:
        """Give the tags of a request.

        Args:
            headers: Lower-cased names and values; of one that is repeated, the first counts.

        Raises:
            Nothing: what is not believed or cannot be used is counted in `farthing.health().context`.
        """
        said: dict[str, str] = {}
        others: dict[str, str] = {}
        for count, (name, value) in enumerate(headers):
            if count >= _MAX_HEADERS:
                counters.add("context", "refused:too-many-headers")
                break
            (said if name in self._wanted else others).setdefault(name, value)
        if not said:
            return dict(self._defaults)
        if not self._is_trusted({**others, **said}):
            counters.add("context", "untrusted")
            return dict(self._defaults)
        found: dict[str, object] = dict(self._defaults)
        found |= tags_from_baggage(said.get(BAGGAGE), names=self._baggage)
        found |= parse_tags(said.get(HEADER))
        found |= {self._names[name]: value for name, value in said.items() if name in self._names}
        return found

    def _is_trusted(self, headers: Mapping[str, str]) -> bool:
        if not callable(self._trust):
            return self._trust
        try:
            return bool(self._trust(headers))
        except Exception:  # noqa: BLE001 - a check that fails has not passed, and a request must not fail for it
            counters.add("context", "trust-check-failed")
            return False
