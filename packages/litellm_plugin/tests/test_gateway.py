"""An application behind a gateway: one of the two bills."""

from __future__ import annotations

import pytest
from litellm_bench import ASK, lite

import farthing
from farthing.testing import capture
from farthing.testing.provider import FakeProvider
from farthing_litellm import FarthingLogger


@pytest.mark.parametrize(("bills", "recorded"), [(True, []), (False, ["acme"])])
def test_a_gateway_that_bills_leaves_nothing_for_the_application(bills: bool, recorded: list[str]) -> None:
    """Behind a proxy that runs farthing the application's view of a call would be a second bill of it."""
    with (
        FakeProvider() as provider,
        capture(policy={"gateway": {"bills": bills}}) as captured,
        farthing.attribute(tenant="acme"),
    ):
        lite.callbacks = [FarthingLogger(feature="a")]
        where = {"api_base": provider.openai_url, "api_key": "sk-secret", "max_retries": 0}
        lite.completion("litellm_proxy/gpt-4o-mini", ASK, **where)
        assert [call.attribution.tenant for call in captured.calls] == recorded
        assert {call.details["gateway"] for call in captured.calls} <= {"litellm-proxy"}
        assert captured.health.duplicates == int(bills)
        assert len(provider.requests) == 1
