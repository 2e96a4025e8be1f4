"""The names of dimensions as people write them, and the one name that each of them has here."""

from __future__ import annotations

from typing import Final

__all__ = ["ALIASES", "canonical_name"]

ALIASES: Final = {
    "feature_id": "feature",
    "feature_name": "feature",
    "team_id": "team",
    "team_name": "team",
    "owner": "team",
    "tenant_id": "tenant",
    "customer_id": "tenant",
    "customer": "tenant",
    "org_id": "tenant",
    "organization_id": "tenant",
    "env": "environment",
    "deployment_environment": "environment",
    "task": "task_type",
    "endpoint": "route",
    "user": "user_id",
    "session": "session_id",
    "job": "job_id",
}
"""Spellings that other tools, gateways and guides teach; the right side is ours."""


def canonical_name(name: str) -> str:
    """Give the dimension that `name` means; a name that means none is given back, lower-cased with underscores.

    Raises:
        Nothing.
    """
    plain = name.strip().lower().replace("-", "_").replace(".", "_")
    return ALIASES.get(plain, plain)
