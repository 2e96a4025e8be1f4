"""The provider's own account of a call, read where CrewAI makes its summary of it; events carry the summary alone.

It leaves out the tier that was served, the model that answered, how long a cache lives that was written, Azure's cached
tokens and the searches. CrewAI's own objects stay as they are: what is read here waits for the event of the call.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from farthing.guard import guarded
from farthing_crewai.accounts import NO_ACCOUNT, Account, account_of
from farthing_crewai.extract import current_call_id

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["Answers"]

_SUMMARISERS: Final = {
    "_extract_openai_token_usage": "openai_chat",
    "_extract_responses_token_usage": "openai_responses",
    "_extract_anthropic_token_usage": "anthropic",
    "_extract_token_usage": "gemini",
    "_extract_azure_token_usage": "azure",
}
"""What makes a summary of an answer, in the providers of crewai 1.14.7 to 1.15.30, and the shape of the answer."""

_MAX_CALLS: Final = 1_000
_MAX_ANSWERS: Final = 8
"""Of one call: where CrewAI runs a tool inside of it, and each chunk of a stream of Gemini's."""


class _Heard(NamedTuple):
    summary: Mapping[str, object]
    account: Account


class Answers:
    """What providers said in calls whose events are still to come."""

    def __init__(self) -> None:
        self._lock: Final = threading.Lock()
        self._attended: set[type] = set()
        self._heard: OrderedDict[str, list[_Heard]] = OrderedDict()
        self._is_listening = False

    def listen(self) -> None:
        """Begin to keep accounts."""
        self._is_listening = True

    def close(self) -> None:
        """Keep none any more, and let all go."""
        self._is_listening = False
        with self._lock:
            self._heard.clear()

    @guarded
    def attend(self, llm: object) -> None:
        """Read along in the class of an LLM, before its first call.

        Args:
            llm: One of CrewAI's; one that makes no summaries is left alone.

        Raises:
            Nothing.
        """
        kind = type(llm)
        if kind in self._attended:
            return
        with self._lock:
            bases = set(kind.__mro__) - self._attended
            for base in bases:
                for name in _SUMMARISERS.keys() & vars(base).keys():
                    standing: Any = vars(base)[name]
                    if isinstance(standing, staticmethod):
                        setattr(base, name, staticmethod(self._reading(standing.__func__, _SUMMARISERS[name])))
                    else:
                        setattr(base, name, self._reading(standing, _SUMMARISERS[name]))
            self._attended |= bases  # only now, so that no thread's first call goes by unread

    def account_for(self, call_id: str, summary: Mapping[str, object] | None) -> Account:
        """Give what the provider said in the answer that CrewAI made this summary of, and forget the call.

        Args:
            call_id: Of CrewAI's.
            summary: As its event has it; None for a call that failed.

        Raises:
            Nothing.
        """
        with self._lock:
            heard = self._heard.pop(call_id, ())
        account = next((each.account for each in reversed(heard) if each.summary == summary), NO_ACCOUNT)
        return account._replace(pieces=len(heard))

    def _reading(self, summarise: Callable[..., Any], shape: str) -> Callable[..., Any]:
        @functools.wraps(summarise)
        def read_along(*arguments: Any, **named: Any) -> Any:
            summary = summarise(*arguments, **named)
            if self._is_listening:
                self._hear(summary, named.get("response", arguments[-1] if arguments else None), shape)
            return summary

        return read_along

    @guarded
    def _hear(self, summary: Mapping[str, object], answer: object, shape: str) -> None:
        call_id = current_call_id()
        account = None if call_id is None else account_of(answer, shape)
        if call_id is None or account is None:
            return
        with self._lock:
            heard = self._heard.setdefault(call_id, [])
            heard.append(_Heard(dict(summary), account))
            del heard[:-_MAX_ANSWERS]
            if len(self._heard) > _MAX_CALLS:
                self._heard.popitem(last=False)
