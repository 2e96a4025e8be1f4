"""The fake provider as a program."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from farthing.testing.provider.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path


def test_runs_until_interrupted_and_prints_the_invoice(tmp_path: Path) -> None:
    """A user without Python code needs the addresses first and the bill last."""
    file = tmp_path / "invoice.json"
    command = [sys.executable, "-m", "farthing.testing.provider", "--port", "0", "--invoice", str(file)]
    with subprocess.Popen([*command, "--deployment", "prod=gpt-4o"], stdout=subprocess.PIPE, text=True) as process:  # noqa: S603 - its own module
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or "GEMINI_API_KEY" not in lines[-1]:
            lines.append(process.stdout.readline())
            assert lines[-1], "the program ended before it printed its addresses"
        exports = dict(re.findall(r"export (\w+)=(\S+)", "".join(lines)))
        body: dict[str, Any] = {"model": "gpt-4o", "messages": []}
        assert httpx.post(exports["OPENAI_BASE_URL"] + "/chat/completions", json=body).status_code == 200
        azure = exports["AZURE_OPENAI_ENDPOINT"] + "/openai/deployments/prod/chat/completions"
        assert httpx.post(azure, json=body).status_code == 200
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.wait(10) == 0
    assert "total 0.0007375 USD" in rest  # (101 + 102) x 2.50 + (11 + 12) x 10, per million
    assert len(json.loads(file.read_text(encoding="utf-8"))["lines"]) == 2


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [(["--help"], 0, "rate-limited"), (["--deployment", "x"], 2, "NAME=MODEL"), (["--port", "x"], 2, "invalid int")],
)
def test_help_and_mistakes(capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, said: str) -> None:
    """A wrong argument must say what is right."""
    with pytest.raises(SystemExit) as left:
        main(arguments)
    captured = capsys.readouterr()
    assert left.value.code == code
    assert said in captured.out + captured.err
