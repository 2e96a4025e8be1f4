"""Usage as providers and frameworks report it, read into the one inclusive `Usage`; pure, one adapter a shape."""

from __future__ import annotations

from farthing.usage.reading import SHAPES, UsageReading, read_usage
from farthing.usage.tools import billed_calls, grounding_calls, preview_tools

__all__ = ["SHAPES", "UsageReading", "billed_calls", "grounding_calls", "preview_tools", "read_usage"]
