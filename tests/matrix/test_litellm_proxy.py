"""LiteLLM's proxy in every situation: who pays is said by headers, and the ledger is another process's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from matrix import drive_proxy
from matrix.lab import run
from matrix.observers import GatewayObserver
from matrix.table import matrix
from proxy_bench import running_proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

    from farthing.testing.provider import FakeProvider
    from matrix.cells import Cell
    from matrix.observers import Observer


@pytest.fixture(scope="module")
def observer(provider: FakeProvider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayObserver]:
    """Run the proxy, and read its ledger."""
    folder = tmp_path_factory.mktemp("proxy")
    configuration = Path(__file__).parent / "proxy"
    with (
        running_proxy(folder, configuration=configuration, provider=provider) as url,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv(drive_proxy.URL, url)
        yield GatewayObserver(folder / "ledger")


@matrix(drive_proxy.PROXY)
def test_matrix(cell: Cell, provider: FakeProvider, observer: Observer) -> None:
    """A call would be lost, doubled, priced wrongly or given to somebody else."""
    problems = run(cell, provider=provider, observer=observer)
    assert not problems, "\n".join(problems)
