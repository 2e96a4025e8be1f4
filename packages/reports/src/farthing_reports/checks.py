"""What a check of the doctor's found."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

__all__ = ["Check", "State"]

State = Literal["ok", "warn", "fail"]


class Check(BaseModel):
    """One thing that was looked at, and what to do about it."""

    model_config = ConfigDict(frozen=True)

    topic: str
    """configuration, frameworks, ledger, export, prices or neighbours."""
    name: str
    state: State
    found: str
    """One sentence."""
    fix: str | None = None
    """What to do; None where nothing is wrong."""
