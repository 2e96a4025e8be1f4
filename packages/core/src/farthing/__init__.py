"""farthing: who pays for every LLM call.

Importing this package loads nothing but the context of attribution: no framework, no SDK, no price data. Everything
else arrives with its first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Final

from farthing.context import attribute, carry, current

if TYPE_CHECKING:
    from farthing.api import aflush, price, require
    from farthing.corroboration import provider_tags
    from farthing.counting import Health
    from farthing.envelope import Attribution, Call, Cost, CostLine, Provenance, Scope, Usage
    from farthing.errors import AttributionError, ConfigurationError, FarthingError, PriceDataError
    from farthing.executors import CarryingExecutor
    from farthing.propagation import export_context, resume
    from farthing.setup import configure, flush, health, shutdown

__all__ = [
    "Attribution",
    "AttributionError",
    "Call",
    "CarryingExecutor",
    "ConfigurationError",
    "Cost",
    "CostLine",
    "FarthingError",
    "Health",
    "PriceDataError",
    "Provenance",
    "Scope",
    "Usage",
    "aflush",
    "attribute",
    "carry",
    "configure",
    "current",
    "export_context",
    "flush",
    "health",
    "price",
    "provider_tags",
    "require",
    "resume",
    "shutdown",
]

__version__: Final = "0.1.0"

_HOMES: Final = {
    "Attribution": "envelope",
    "AttributionError": "errors",
    "Call": "envelope",
    "CarryingExecutor": "executors",
    "ConfigurationError": "errors",
    "Cost": "envelope",
    "CostLine": "envelope",
    "FarthingError": "errors",
    "Health": "counting",
    "PriceDataError": "errors",
    "Provenance": "envelope",
    "Scope": "envelope",
    "Usage": "envelope",
    "aflush": "api",
    "configure": "setup",
    "export_context": "propagation",
    "flush": "setup",
    "health": "setup",
    "price": "api",
    "provider_tags": "corroboration",
    "require": "api",
    "resume": "propagation",
    "shutdown": "setup",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module when it is first used."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'farthing' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"farthing.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted({*globals(), *__all__})
