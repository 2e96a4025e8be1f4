"""Three keys and their owners, for trying the proxy out without a database."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from litellm.proxy._types import UserAPIKeyAuth

if TYPE_CHECKING:
    from fastapi import Request

KEYS = {
    os.environ.get("GROWTH_KEY", "sk-growth"): UserAPIKeyAuth(
        key_alias="growth-app", team_id="growth", team_alias="growth", metadata={"plan": "internal"}
    ),
    os.environ.get("TAGGED_KEY", "sk-tagged"): UserAPIKeyAuth(
        key_alias="mailer", team_alias="growth", metadata={"feature": "email-generator"}
    ),
    os.environ.get("NOBODY_KEY", "sk-nobody"): UserAPIKeyAuth(key_alias="nobody"),
}


async def user_api_key_auth(request: Request, api_key: str) -> UserAPIKeyAuth:  # noqa: ARG001 - LiteLLM's protocol
    """Give the owner of a key."""
    for key, owner in KEYS.items():
        if secrets.compare_digest(api_key, key):
            return owner.model_copy(update={"api_key": api_key})
    raise ValueError("this key is not known here")
