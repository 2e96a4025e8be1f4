"""How one value is written, and what cannot be a value: pure functions of a name and a value.

A value that is refused is kept nowhere: it may be content, a key or a person.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import unicodedata
from decimal import Decimal
from enum import Enum
from math import isfinite
from typing import TYPE_CHECKING, Final
from uuid import UUID

if TYPE_CHECKING:
    from farthing.policy.document import Guards

__all__ = [
    "INVALID",
    "MAX_LENGTH",
    "OPAQUE",
    "OVERFLOW",
    "as_text",
    "found_by_guards",
    "hashed",
    "mixes_scripts",
    "spelled",
    "templated",
]

INVALID: Final = "__invalid__"
"""Stands in for a value that cannot be a tag; the value itself is kept nowhere, since it may be content."""
OVERFLOW: Final = "__other__"
"""Stands in for the values of a dimension beyond its limit, so that totals stay whole and the excess is seen."""

MAX_LENGTH: Final = 128
OPAQUE: Final = frozenset({"user_id", "session_id", "job_id"})
"""Ids of somebody else's: written as they come, never lower-cased."""
MARKERS: Final = frozenset({INVALID, OVERFLOW})

_SPACES: Final = re.compile(r"[\s_]+")
_ROUTE_SPACES: Final = re.compile(r"\s+")
_PRINTABLE: Final = re.compile(r"[^\x00-\x1f\x7f\ud800-\udfff]+")  # nor half a surrogate pair, which no UTF-8 can hold

_EMAIL: Final = re.compile(r"[^\s@<>,;]+@[^\s@<>,;]+\.[a-z]{2,}", re.IGNORECASE)
_SECRET: Final = re.compile(
    r"\b(?:sk|pk|rk)[-_](?:live|test|proj|ant|or|svcacct)?[-_]?[a-z0-9_-]{16,}"  # OpenAI, Anthropic, OpenRouter, Stripe
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"  # AWS
    r"|\bAIza[a-z0-9_-]{30,}"  # Google
    r"|\b(?:gh[pousr]|github[-_]pat|glpat|hf|npm|xox[abprs])[-_][a-z0-9_-]{16,}"
    r"|\beyJ[a-z0-9_-]{8,}\.[a-z0-9_-]{8,}"  # a JSON web token
    r"|\b(?:bearer|basic)[\s_-]+[a-z0-9._~+/=-]{12,}"
    r"|-----BEGIN",
    re.IGNORECASE,
)
_PHONE: Final = re.compile(
    r"\+\d[\d\s().-]{7,18}\d"  # +49 30 123456
    r"|\(\d{2,5}\)[\s.-]?\d{3,4}[\s.-]?\d{3,6}"  # (555) 123-4567
    r"|(?<![\w-])\d{3}[\s.-]\d{3}[\s.-]\d{4}(?![\w-])"  # 555-123-4567
    r"|(?<![\w-])0\d{2,4}[\s/-]\d{5,9}(?![\w-])"  # 030 1234567
)
_SENTENCE: Final = re.compile(r"[.?!;:,]\s+\S+\s+\S+|</|[{\[]\s*[\"']")
"""Words that go on after a stop; closing mark-up; JSON."""
_FILLED: Final = re.compile(
    r"(?<=/)(?:\d{3,}|[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|(?=[a-z]*\d)[0-9a-f]{16,})(?=/|$)", re.IGNORECASE
)
_ALIKE: Final = frozenset({"LATIN", "CYRILLIC", "GREEK"})
_HASH: Final = re.compile(r"h_[0-9a-f]{24}")


def as_text(raw: object) -> str | None:
    """Give a value as text, None for what is no text, number, id or member of an enumeration.

    Raises:
        Nothing.
    """
    if isinstance(raw, Enum):
        raw = raw.value
    if isinstance(raw, float | Decimal) and not isfinite(raw):
        return None
    if isinstance(raw, (bool, int, float, Decimal, UUID)):
        raw = str(raw)
    return raw if isinstance(raw, str) else None


def spelled(name: str, raw: str, *, max_length: int = MAX_LENGTH) -> tuple[str, str | None]:
    """Write a text the one way that its dimension has, or give the marker and why.

    Raises:
        Nothing.
    """
    if len(raw) > max_length:
        return INVALID, "too-long"
    text = raw.strip()
    if text in MARKERS:
        return text, None
    if not text.isascii() and name not in OPAQUE:
        text = _one_way(text)
    if not text or not _PRINTABLE.fullmatch(text):
        return INVALID, "not-printable"
    if name in OPAQUE:
        return text, None
    if name == "route":
        return _ROUTE_SPACES.sub("-", text.lower()), None
    return _SPACES.sub("-", text.lower()), None


def _one_way(text: str) -> str:
    """Write letters the one way that they look: wide and composed forms as plain ones, without what nobody sees."""
    plain = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", plain.lower()).strip()


def mixes_scripts(text: str) -> bool:
    """Say whether letters stand in a text that look like those of another script: "p\u0430ypal" is no "paypal".

    Raises:
        Nothing.
    """
    if text.isascii():
        return False
    scripts = {unicodedata.name(c, "").partition(" ")[0] for c in text if c.isalpha()}
    return len(scripts & _ALIKE) > 1


def found_by_guards(text: str, guards: Guards) -> str | None:
    """Name what a text looks like that must not be a tag: email, secret, phone or free-text.

    Raises:
        Nothing.
    """
    if guards.email and _EMAIL.search(text):
        return "email"
    if guards.secret and _SECRET.search(text):
        return "secret"
    if guards.phone and _PHONE.search(text):
        return "phone"
    if guards.free_text and (len(text.split()) > guards.max_words or _SENTENCE.search(text)):
        return "free-text"
    return None


def templated(route: str) -> str:
    """Replace what looks like an id in a path: "users/4711/chat" is one route, not a route a user.

    Raises:
        Nothing.
    """
    return _FILLED.sub("{id}", route)


def hashed(name: str, text: str, key: bytes) -> str:
    """Give a keyed hash of a value (HMAC-SHA256, 96 bits kept); one that has been hashed already stays.

    Raises:
        Nothing.
    """
    if _HASH.fullmatch(text):
        return text
    return "h_" + hmac.new(key, f"{name}\0{text}".encode(), hashlib.sha256).hexdigest()[:24]
