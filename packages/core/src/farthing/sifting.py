"""Parting the spans that a receiver cannot read from those that it can, and a bad span from a bad endpoint.

A refusal says nothing about a span while the receiver takes nothing at all: a TLS port that is spoken to in plain HTTP
answers 400 to everything, and so does what is no OTLP receiver. Only what was refused beside something that was taken
is put aside; all else is kept and tried again.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

from farthing.answers import Answer
from farthing.otlp import halves, spans_in

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Sifted", "sift"]

_MAX_REFUSED: Final = 8
"""So many single spans are refused before it is the endpoint, where none was taken: a split of all would be a storm."""
_WHAT_TO_CHECK: Final = (
    "to all of a request, which is kept; check that the endpoint takes OTLP over HTTP as protobuf, by default on port "
    "4318 (4317 is gRPC), and that http:// or https:// is what it speaks"
)


class Sifted:
    """What became of requests that were sent in pieces."""

    __slots__ = ("_refused", "_settled", "stopped", "taken")

    def __init__(self) -> None:
        self.taken: list[tuple[Answer, int]] = []
        """Answers to what was taken, and the spans in it."""
        self.stopped: Answer | None = None
        """Why what is not settled has to be sent again."""
        self._settled: list[int] = []
        self._refused: list[tuple[int, bytes, Answer]] = []

    @property
    def settled(self) -> tuple[int, ...]:
        """The requests of which every piece was taken or put aside, by number."""
        return tuple(self._settled) if self.taken else ()

    @property
    def refused(self) -> tuple[tuple[int, bytes, Answer], ...]:
        """The pieces to put aside, with the number of their request and the answer to them."""
        settled = frozenset(self.settled)
        return tuple(refused for refused in self._refused if refused[0] in settled)

    def add(self, number: int, request: bytes, post: Callable[[bytes], Answer], *, splits: bool, first: bool) -> bool:
        """Send one request in ever smaller pieces; say whether to go on with the next."""
        work = [request]
        while work:
            piece = work.pop()
            answer = post(piece)
            if answer.verdict == "later":
                self.stopped = answer
                return False
            if answer.verdict == "taken":
                self.taken.append((answer, spans_in(piece) if splits else 1))
                continue
            smaller = list(halves(piece)) if splits else []
            if smaller:
                work.extend(reversed(smaller) if first else random.sample(smaller, 2))
                continue
            self._refused.append((number, piece, answer))
            if not self.taken and len(self._refused) >= _MAX_REFUSED:
                return False
        self._settled.append(number)
        return True

    def end(self) -> Sifted:
        """Keep everything where nothing was taken."""
        if not self.taken and self.stopped is None:
            self.stopped = Answer("later", f"{self._refused[0][2].reason} {_WHAT_TO_CHECK}")
        return self


def sift(
    requests: Sequence[bytes], post: Callable[[bytes], Answer], *, splits: bool = True, first: bool = True
) -> Sifted:
    """Send requests that were refused as one, in pieces.

    Args:
        requests: Encoded export requests.
        post: Sends one piece.
        splits: Whether they hold spans, which can be parted; metrics are taken or refused whole.
        first: Whether this is the first time, and so in order; later ones begin anywhere, so that bad spans in front
            do not hide good ones behind for ever.

    Raises:
        Nothing of its own.
    """
    found = Sifted()
    numbers = range(len(requests))
    for number in numbers if first else random.sample(numbers, len(numbers)):
        if not found.add(number, requests[number], post, splits=splits, first=first):
            break
    return found.end()
