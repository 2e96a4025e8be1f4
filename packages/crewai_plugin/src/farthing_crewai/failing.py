"""What went wrong, by CrewAI's text of it: a status code or a class name is taken out, the text goes no further."""

from __future__ import annotations

import re
from typing import Final

from farthing.failures import OTHER

__all__ = ["failure"]

# Only where the SDKs and crewai put them, at the beginning: a provider's own message may say anything further on.
_BEGIN: Final = r"^(?:[A-Za-z ]{1,60} failed: |Model [^\n]{1,120}? not found: )?"
# "Error code: 429 - ..." (openai, anthropic), "Google Gemini API error: 429 - ...", "Azure API HTTP error: 429 - ...".
_STATUS: Final = re.compile(rf"{_BEGIN}(?:Error code: |Google Gemini API error: |Azure API HTTP error: )([45]\d\d)\b")
# "An error occurred (ThrottlingException) when calling the Converse operation" (botocore).
_BOTO: Final = re.compile(rf"{_BEGIN}(?:An error occurred|Bedrock API error) \(([A-Za-z]{{1,60}})\)")
_BEDROCK_WORDS: Final = {
    "API throttled": "ThrottlingException",
    "Service quota exceeded": "ServiceQuotaExceededException",
    "Access denied to model": "AccessDeniedException",
    "Request validation failed": "ValidationException",
    "Internal server error": "InternalServerException",
    "Service unavailable": "ServiceUnavailableException",
}
"""CrewAI's own words, which it puts in the place of Bedrock's codes."""
_BEDROCK: Final = re.compile(rf"^AWS Bedrock API call failed: ({'|'.join(_BEDROCK_WORDS)})\b")
_LITELLM: Final = re.compile(rf"{_BEGIN}litellm\.([A-Za-z]{{1,60}}(?:Error|Exception))\b")
# crewai's own words for a prompt that the provider refused as too long, and behind them the provider's.
_TOO_LONG: Final = re.compile(r"LLM context length exceeded\. Original error: (?:([45]\d\d)\b)?")
# crewai's own words, alone or behind "OpenAI API call failed: ".
_DENIED: Final = re.compile(r"(?:^|^[A-Za-z ]{1,60}: )LLM call (?:denied|blocked) by ")

_STATUS_OF: Final = {
    # LiteLLM's names for answers that are an HTTP error: the provider sells none of them. InternalServerError is not
    # among them: it is also what LiteLLM makes of a broken connection, after which nobody knows what was billed.
    "AuthenticationError": "401",
    "BadRequestError": "400",
    "ContentPolicyViolationError": "400",
    "ContextWindowExceededError": "400",
    "NotFoundError": "404",
    "PermissionDeniedError": "403",
    "RateLimitError": "429",
    "ServiceUnavailableError": "503",
    "UnprocessableEntityError": "422",
    # Bedrock's (AWS API reference, Converse, "Errors").
    "AccessDeniedException": "403",
    "InternalServerException": "500",
    "ModelErrorException": "424",
    "ModelNotReadyException": "429",
    "ModelTimeoutException": "408",
    "ResourceNotFoundException": "404",
    "ServiceQuotaExceededException": "400",
    "ServiceUnavailableException": "503",
    "ThrottlingException": "429",
    "ValidationException": "400",
}
"""The status code behind an error's name: it is what `error.type` is where a provider has refused."""


def failure(text: str) -> tuple[str, bool | None]:
    """Give a failure its name (see farthing.failures), and False where it is certain that nothing was bought.

    Raises:
        Nothing.
    """
    if _DENIED.search(text):
        return "denied", False
    if found := _STATUS.search(text) or _BOTO.search(text):
        return _STATUS_OF.get(found.group(1), found.group(1)), False
    if found := _BEDROCK.search(text):
        return _STATUS_OF[_BEDROCK_WORDS[found.group(1)]], False
    if found := _LITELLM.search(text):
        status = _STATUS_OF.get(found.group(1))
        return status or found.group(1), None if status is None else False
    found = _TOO_LONG.search(text)
    return (OTHER, None) if found is None else (found.group(1) or "400", False)
