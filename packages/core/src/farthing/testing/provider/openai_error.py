"""OpenAI's error bodies, which Azure OpenAI shares."""

from __future__ import annotations

from farthing.testing.provider import sse
from farthing.testing.provider.plan import Frame, Outgoing, Refusal
from farthing.testing.provider.wire_json import JSONObject, dump

# Error types and codes: https://platform.openai.com/docs/guides/error-codes
_TYPES = {
    400: ("invalid_request_error", None),
    401: ("invalid_request_error", "invalid_api_key"),
    403: ("invalid_request_error", "unsupported_country_region_territory"),
    404: ("invalid_request_error", "model_not_found"),
    429: ("requests", "rate_limit_exceeded"),
    500: ("server_error", None),
    503: ("service_unavailable_error", None),
}


def refuse(refusal: Refusal) -> Outgoing:
    """Write an error the way OpenAI does. Raises: nothing."""
    return Outgoing(status=refusal.status, body=dump(_error(refusal)), headers={"x-request-id": f"req_{refusal.token}"})


def broken(refusal: Refusal) -> Frame:
    """Write the error event that ends an OpenAI stream. Raises: nothing."""
    return sse.data_frame(_error(refusal))


def _error(refusal: Refusal) -> JSONObject:
    kind, code = _TYPES.get(
        refusal.status, ("server_error" if refusal.is_server_fault else "invalid_request_error", None)
    )
    return {
        "error": {"message": refusal.message, "type": kind, "param": None, "code": refusal.code or code},
    }
