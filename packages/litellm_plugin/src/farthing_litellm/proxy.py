"""For LiteLLM's proxy: a logger that is ready, under a name for its configuration.

    litellm_settings:
      callbacks: farthing_litellm.proxy.logger

Tags come from the request's metadata, `x-litellm-tags`, headers named in `extra_spend_tag_headers`, then from the
metadata of the key and its team; the team of the key and its user count where nobody says better.
"""

from __future__ import annotations

from typing import Final

from farthing_litellm.logger import FarthingLogger

__all__ = ["logger"]


class Farthing_PROXY_Logger(FarthingLogger):  # noqa: N801 - LiteLLM looks for `_PROXY_` in the name, see below
    """A logger that a request cannot switch off.

    `"no-log": true` in a request's body keeps every callback from seeing it but those of the proxy itself, which
    LiteLLM knows by this part of their class's name (`Logging.should_run_callback`, litellm 1.99 to 1.110).
    """


logger: Final = Farthing_PROXY_Logger()
