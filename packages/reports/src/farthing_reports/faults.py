"""What the command refuses: one sentence that names the place and the fix."""

from __future__ import annotations

from farthing.errors import FarthingError

__all__ = ["CommandError"]


class CommandError(FarthingError, ValueError):
    """An option, argument or file that a command cannot use; printed as one sentence, exit code 2."""
