"""LiteLLM's proxy for tests: in an environment of its own, started with a folder of configuration."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from collections.abc import Generator

    from farthing.testing.provider import FakeProvider

__all__ = ["ROOT", "running_proxy"]

ROOT = Path(__file__).parents[1]
VENV = ROOT / ".venvs" / "proxy"


def proxy_command() -> str:
    """Give the proxy's command in an environment of its own, made here if need be: it pins what farthing does not."""
    command, stamp = VENV / "bin" / "litellm", VENV / f".litellm-{version('litellm')}"
    if not stamp.exists():
        uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
        wanted = [f"litellm[proxy]=={version('litellm')}"]
        for package in ("core", "litellm_plugin"):
            wanted += ["-e", str(ROOT / "packages" / package)]
        steps = (
            [uv, "venv", "-q", "--clear", "--python", sys.executable, str(VENV)],
            [uv, "pip", "install", "-q", "--python", str(VENV / "bin" / "python"), *wanted],
        )
        try:
            for step in steps:
                subprocess.run(step, check=True, capture_output=True, timeout=600)  # noqa: S603 - our own command
        except (OSError, subprocess.SubprocessError) as error:
            pytest.skip(
                f"NOT RUN: the proxy's environment could not be made ({type(error).__name__}): real proxy untested"
            )
        stamp.touch()
    return str(command)


@contextlib.contextmanager
def running_proxy(folder: Path, *, configuration: Path, provider: FakeProvider) -> Generator[str]:
    """Run the proxy on a copy of a configuration, with its ledger in `folder / "ledger"`, and give its address."""
    command = proxy_command()
    shutil.copytree(configuration, folder / "proxy")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FARTHING_", "OTEL_"))}
    environment |= {
        "OPENAI_API_BASE": provider.openai_url,
        "OPENAI_API_KEY": "sk-provider",
        "ANTHROPIC_API_BASE": provider.anthropic_url,
        "ANTHROPIC_API_KEY": "sk-provider",
        "FARTHING_LEDGER": str(folder / "ledger"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    arguments = [command, "--config", "config.yaml", "--port", str(port), "--host", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(arguments, cwd=folder / "proxy", env=environment, stdout=log, stderr=log)  # noqa: S603
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_live(url, server, folder / "log")
            yield url
        finally:
            server.terminate()
            server.wait(30)


def wait_until_live(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until the proxy answers."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and server.poll() is None:
        try:
            if httpx.get(f"{url}/health/liveliness", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.3)
    raise AssertionError(log.read_text(encoding="utf-8", errors="replace")[-3000:])
