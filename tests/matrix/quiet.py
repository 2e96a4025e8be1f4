"""What frameworks read when they are imported: no telemetry, no tracing dialogue, no download of a price map."""

from __future__ import annotations

import os
import tempfile
from typing import Final

__all__ = ["QUIET"]

QUIET: Final = {
    "CREWAI_DISABLE_TELEMETRY": "true",
    "CREWAI_TRACING_ENABLED": "false",
    "CREWAI_STORAGE_DIR": tempfile.mkdtemp(prefix="farthing-crewai-"),
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "LANGSMITH_TRACING": "false",
    "FARTHING_LEDGER": "off",
}

os.environ.pop("OTEL_SDK_DISABLED", None)
os.environ |= QUIET
