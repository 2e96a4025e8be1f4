"""farthing for LiteLLM: one callback that attributes and prices every call.

litellm.callbacks = [FarthingLogger(feature="email-generator")]
"""

from __future__ import annotations

from farthing_litellm import versions  # isort: skip - first: an old litellm fails here with a reason
from farthing_litellm.logger import FarthingLogger
from farthing_litellm.refusing import CallRefusedError

__all__ = ["CallRefusedError", "FarthingLogger"]

__version__ = versions.OURS
