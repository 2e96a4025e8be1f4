"""Price files: what is in force, what is fetched, what is refused, and how it is put in force."""

from __future__ import annotations

import gzip
import hashlib
import json
import re
import threading
from datetime import UTC, datetime
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import pytest
from typer.testing import CliRunner

from farthing import Usage
from farthing.pricing import PricesSettings, default_book
from farthing.pricing.files import bundled_catalog, read_catalog
from farthing.pricing.installed import BookInForce, installed_file
from farthing.settings import load_settings
from farthing_reports.cli import app
from farthing_reports.faults import CommandError
from farthing_reports.in_force import prices_in_force
from farthing_reports.price_changes import parse_bound, price_changes
from farthing_reports.price_status import PriceStatus, price_status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from typer.testing import Result

BUNDLED = (files("farthing.pricing") / "data" / "catalog.jsonl").read_bytes()
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


def run(*arguments: str | Path) -> Result:
    """Run the command in this process."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def edited(change: Callable[[dict[str, Any]], dict[str, Any] | None], **manifest: str) -> bytes:
    """Give the bundled data with its models changed, or dropped, under a manifest that fits."""
    first, *lines = BUNDLED.splitlines()
    body: list[dict[str, Any]] = []
    header: dict[str, Any] = {}
    for line in lines:
        entry = json.loads(line)
        if "provider" in entry:
            header = entry
            body.append(entry)
        elif (new := change(entry | {"of": header["provider"]})) is None:
            header["models"] -= 1
        else:
            new.pop("of")
            body.append(new)
    text = "".join(json.dumps(entry) + "\n" for entry in body).encode()
    found = json.loads(first) | {"body_sha256": hashlib.sha256(text).hexdigest()} | manifest
    return json.dumps(found).encode() + b"\n" + text


def with_rate(bucket: str, usd: str, **manifest: str) -> bytes:
    """Give the bundled data with one rate of OpenAI's gpt-4o changed."""

    def change(entry: dict[str, Any]) -> dict[str, Any]:
        if entry["of"] == "openai" and entry["id"] == "gpt-4o":
            entry["prices"] = [[when, rates | {bucket: usd}] for when, rates in entry["prices"]]
        return entry

    return edited(change, **manifest)


def without(model: str) -> bytes:
    """Give the bundled data without a model of OpenAI's."""
    return edited(lambda entry: None if (entry["of"], entry["id"]) == ("openai", model) else entry)


def written(path: Path, data: bytes) -> Path:
    """Write a file and name it."""
    path.write_bytes(data)
    return path


def configured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Make a farthing.toml the one in use."""
    monkeypatch.setenv("FARTHING_CONFIG", str(written(tmp_path / "farthing.toml", text.encode())))


class Serving:
    """A web server on loopback that answers every path with what it was given."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
        answers = self.answers

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                status, headers, body = answers[self.path.partition("?")[0]]
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                if "Content-Length" not in headers:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
                """Keep quiet."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)
        self.thread.start()

    def answer(self, path: str, body: bytes, status: int = 200, **headers: str) -> str:
        """Set an answer and give its URL."""
        self.answers[path] = (status, {name.replace("_", "-"): value for name, value in headers.items()}, body)
        return self.url + path

    def close(self) -> None:
        """End."""
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture(autouse=True)
def _bundled_again() -> Iterator[None]:
    """Leave the process with the bundled book."""
    yield
    default_book(PricesSettings())


@pytest.fixture
def web() -> Iterator[Serving]:
    """Give a web server."""
    serving = Serving()
    yield serving
    serving.close()


def amount() -> Decimal | None:
    """Price a million input tokens of gpt-4o with the book in force."""
    return prices_in_force().book.price("openai", "gpt-4o", Usage(input_tokens=1_000_000), at=NOW).amount_usd


def test_status_names_the_bundled_prices() -> None:
    """Without any setting, source, version, hash, day and size of the bundled data are said."""
    result = run("prices", "status")
    assert result.exit_code == 0, result.stderr
    assert "bundled with farthing" in result.stdout
    assert str(bundled_catalog().manifest["body_sha256"]) in result.stdout
    assert re.search(r"data: +of 20\d\d-\d\d-\d\d, \d+ days? old", result.stdout)
    assert re.search(r"size: +\d,\d\d\d models of \d+ providers", result.stdout)
    assert "none of yours" in result.stdout


def test_status_as_json() -> None:
    """A script reads the same facts, and they validate as the model that documents them."""
    status = PriceStatus.model_validate_json(run("prices", "status", "--format", "json").stdout)
    assert status.origin == "bundled"
    assert status.models > 2_000
    assert status.corrections > 50
    assert status.warnings == []


def test_status_warns_of_age(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data older than the setting allows is a warning that says what to do; younger data is none."""
    configured(tmp_path, monkeypatch, "[prices]\nmax_age_days = 5\n")
    (warning,) = price_status(prices_in_force(), now=NOW).warnings
    assert "21 days old, more than prices.max_age_days = 5; update farthing" in warning


def test_status_says_every_effect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Free, alias, tier, estimate and a period to come are told in words; overrides that cannot meet do not overlap."""
    configured(
        tmp_path,
        monkeypatch,
        """
        [[prices.overrides]]
        provider = "openai"
        model = "gpt-4o*"
        free = true
        tier = "batch"
        [[prices.overrides]]
        provider = "openai"
        model = "gpt-*"
        rates = { input = "1" }
        estimated = true
        [[prices.overrides]]
        name = "next-year"
        model = "house-model"
        alias_of = "openai/gpt-4o"
        multiplier = "1.1"
        from = "2027-01-01"
        """,
    )
    status = price_status(prices_in_force(), now=NOW)
    assert [(each.effect, each.holds) for each in status.overrides] == [
        ("free, tier batch only", "now"),
        ("own rates for input, an estimate", "now"),
        ("priced as openai/gpt-4o, list price x 1.1", "later"),
    ]
    assert status.warnings == []


def test_data_without_a_day_is_a_warning(tmp_path: Path) -> None:
    """Prices whose age nobody can tell would never be called old."""
    data = with_rate("input", "3", released="")
    assert run("prices", "use", written(tmp_path / "new", data)).exit_code == 0
    (warning,) = price_status(prices_in_force(), now=NOW).warnings
    assert "does not say of which day it is" in warning
    assert "of an unknown day" in run("prices", "status").stdout


def test_status_says_what_overrides_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each override is listed with its effect; those that fit nothing, never win or overlap are warnings."""
    configured(
        tmp_path,
        monkeypatch,
        """
        [[prices.overrides]]
        name = "negotiated"
        provider = "openai"
        model = "gpt-4o*"
        discount = "15%"
        [[prices.overrides]]
        name = "too-late"
        provider = "openai"
        model = "gpt-4o-mini"
        multiplier = "0.5"
        [[prices.overrides]]
        name = "typo"
        model = "gtp-4o"
        discount = "0.1"
        [[prices.overrides]]
        name = "wide"
        provider = "openai"
        model = "gpt-*"
        discount = "0.05"
        until = "2026-01-01"
        [[prices.overrides]]
        name = "our-own"
        model = "llama-in-the-cellar"
        rates = { input = "0.1", output = "0.2" }
        """,
    )
    status = price_status(prices_in_force(), now=NOW)
    assert [(each.name, each.effect, each.holds, each.models > 0) for each in status.overrides] == [
        ("negotiated", "list price less 15%", "now", True),
        ("too-late", "list price x 0.5", "now", True),
        ("typo", "list price less 10%", "now", False),
        ("wide", "list price less 5%", "no longer", True),
        ("our-own", "own rates for input, output", "now", False),
    ]
    warned = "\n".join(status.warnings)
    assert "'too-late' never wins: 'negotiated' comes first" in warned
    assert "'typo' fits no model" in warned
    assert "overrides 'negotiated' and 'wide' both fit" in warned
    assert "our-own" not in warned
    table = run("prices", "status").stdout
    assert "list price less 15%" in table
    assert "warning: override 'typo' fits no model" in table


def test_pull_from_a_server(web: Serving, tmp_path: Path) -> None:
    """What was fetched is checked and written as it came, with its hash; nothing is in force by that."""
    url = web.answer("/prices", BUNDLED)
    out = tmp_path / "new.prices"
    result = run("prices", "pull", url, "--out", out)
    assert result.exit_code == 0, result.stderr
    assert out.read_bytes() == BUNDLED
    assert hashlib.sha256(BUNDLED).hexdigest() in result.stdout
    assert not installed_file().exists()


def test_pull_from_a_file_and_through_redirect_and_compression(web: Serving, tmp_path: Path) -> None:
    """A path is copied after the same checks; a redirect is followed and compression undone."""
    source = written(tmp_path / "source", BUNDLED)
    assert run("prices", "pull", source, "--out", tmp_path / "one").exit_code == 0
    web.answer("/real", gzip.compress(BUNDLED), Content_Encoding="gzip")
    url = web.answer("/moved", b"", 302, Location="/real")
    assert run("prices", "pull", url, "--out", tmp_path / "two").exit_code == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes() == BUNDLED


def test_pull_holds_the_hash_against_the_data(tmp_path: Path) -> None:
    """The right hash passes in any case of letters, another is refused, and what is no hash is said to be none."""
    source = written(tmp_path / "source", BUNDLED)
    out = tmp_path / "out"
    wrong = run("prices", "pull", source, "--out", out, "--sha256", "0" * 64)
    assert (wrong.exit_code, out.exists()) == (2, False)
    assert "it was changed or cut off" in wrong.stderr
    assert "is no SHA-256" in run("prices", "pull", source, "--out", out, "--sha256", "abc").stderr
    right = hashlib.sha256(BUNDLED).hexdigest().upper()
    assert run("prices", "pull", source, "--out", out, "--sha256", right).exit_code == 0


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (BUNDLED[: len(BUNDLED) // 2], "damaged or cut off"),
        (b"<html>Sign in</html>", "not a price file"),
        (b"", "not a price file"),
        (b'[{"id": "openai", "models": [', "cut off or no JSON"),
        (b"[]", "has no models"),
        (b"[7]", "neither in the format"),
        (with_rate("input", "-1"), "absurd"),
        (with_rate("input", "NaN"), "absurd"),
        (with_rate("input", "1e12"), "absurd"),
        (with_rate("inptu", "1"), "unknown bucket"),
    ],
)
def test_pull_refuses_what_cannot_be_trusted(body: bytes, reason: str, web: Serving, tmp_path: Path) -> None:
    """Half a file, a login page and absurd rates are one sentence and no file; one that was there stays."""
    out = written(tmp_path / "out", b"before")
    result = run("prices", "pull", web.answer("/p", body), "--out", out)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1
    assert out.read_bytes() == b"before"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_pull_says_what_the_connection_did(web: Serving, tmp_path: Path) -> None:
    """A broken transfer, an error status and a server that is not there are told apart; secrets are not shown."""
    short = web.answer("/short", BUNDLED[:1000], Content_Length=str(len(BUNDLED)))
    missing = web.answer("/missing", b"no", 404).replace("://", "://user:secret@") + "?token=secret"
    endless = web.answer("/loop", b"", 302, Location="/loop")
    closed = "http://127.0.0.1:9/prices"
    for source, reason in (
        (short, "broke off before it was whole"),
        (missing, "answers 404"),
        (endless, "without an end"),
        (closed, "cannot be reached"),
        ("ftp://host/prices", "is no http or https address"),
        ("http://", "is no http or https address"),
        ("http://prices.example.com/prices", "goes over plain http"),
        (str(tmp_path / "absent"), "cannot be read (No such file or directory)"),
    ):
        result = run("prices", "pull", source, "--out", tmp_path / "out")
        assert (result.exit_code, reason in result.stderr) == (2, True), result.stderr
        assert "secret" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_pull_does_not_bypass_the_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Fetching onto the file in force would put prices in force that nobody compared."""
    inforce = written(tmp_path / "mine.prices", BUNDLED)
    configured(tmp_path, monkeypatch, f"[prices]\nfile = '{inforce}'\n")
    result = run("prices", "pull", inforce, "--out", tmp_path / "x" / ".." / "mine.prices")
    assert result.exit_code == 2
    assert "is the price file in force" in result.stderr


def test_use_puts_a_file_in_force_and_reset_takes_it_out(tmp_path: Path) -> None:
    """Later commands price by it, status names it, and reset brings the bundled prices back."""
    assert amount() == Decimal("2.5")
    result = run("prices", "use", written(tmp_path / "new", with_rate("input", "3")))
    assert result.exit_code == 0, result.stderr
    assert "0 models more, 0 fewer, 1 rate changed, 0 lost" in result.stdout
    assert amount() == Decimal(3)
    status = price_status(prices_in_force(), now=NOW)
    assert (status.origin, status.file) == ("installed", str(installed_file()))
    assert status.sha256 == hashlib.sha256(installed_file().read_bytes()).hexdigest()
    assert "3.00 per 1M tokens" in run("price", "openai", "gpt-4o", "--input", "10").stdout
    assert "bundled" in run("prices", "reset").stdout
    assert amount() == Decimal("2.5")
    assert "Nothing was installed" in run("prices", "reset").stdout


@pytest.mark.parametrize(
    ("data", "reason", "row"),
    [
        (without("gpt-4o"), "1 model of", "openai/gpt-4o "),
        (with_rate("input", "25"), "1 rate would move by more than 50%", "+900%"),
        (with_rate("input", "0"), "1 rate would move by more than 50%", "-100%"),
        (with_rate("input", "3", released="2020-01-01"), "older than that in force", "1 rate changed"),
    ],
)
def test_use_asks_for_consent(data: bytes, reason: str, row: str, tmp_path: Path) -> None:
    """What loses models, moves a rate far or is older is shown and refused, and taken with --accept."""
    new = written(tmp_path / "new", data)
    refused = run("prices", "use", new)
    assert refused.exit_code == 2
    assert reason in refused.stderr
    assert "--accept" in refused.stderr
    assert row in refused.stderr + refused.stdout
    assert not installed_file().exists()
    taken = run("prices", "use", new, "--accept")
    assert taken.exit_code == 0
    assert installed_file().read_bytes() == data


def test_bound_of_use(tmp_path: Path) -> None:
    """A rate that moves by exactly the bound passes, one beyond it does not; nonsense is refused."""
    new = written(tmp_path / "new", with_rate("input", "3"))
    assert run("prices", "use", new, "--bound", "19.9%").exit_code == 2
    assert run("prices", "use", new, "--bound", "20%").exit_code == 0
    assert parse_bound("0.5") == parse_bound("50 %") == Decimal("0.5")
    for text in ("", "0", "-5%", "half", "nan", "inf"):
        with pytest.raises(CommandError, match="is no share above zero"):
            parse_bound(text)


def test_tiers_and_long_context_are_compared() -> None:
    """A batch rate or a long-context rate that moves is as much a change as a base rate."""

    def change(entry: dict[str, Any]) -> dict[str, Any]:
        if (entry["of"], entry["id"]) == ("anthropic", "claude-sonnet-4-5"):
            text = json.dumps(entry["prices"]).replace('[200000, "6"]', '[200000, "60"]')
            entry["prices"] = json.loads(text)
        if (entry["of"], entry["id"]) == ("openai", "gpt-4o"):
            entry["variants"] = []
        return entry

    found = price_changes(bundled_catalog(), read_catalog(edited(change)), at=NOW)
    moved = {(one.model, one.rate): (one.old_usd, one.new_usd) for one in found.rates}
    assert moved["anthropic/claude-sonnet-4-5", "input above 200,000"] == (Decimal(6), Decimal(60))
    assert moved["openai/gpt-4o", "batch input"] == (Decimal("1.25"), None)
    assert price_changes(bundled_catalog(), bundled_catalog(), at=NOW).rates == ()


def test_use_replaces_the_file_that_the_settings_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """prices.file stays the one place; its predecessor is kept beside it, and reset says that the setting stands."""
    mine = written(tmp_path / "mine.prices", BUNDLED)
    configured(tmp_path, monkeypatch, f"[prices]\nfile = '{mine}'\n")
    new = with_rate("input", "3")
    assert run("prices", "use", written(tmp_path / "new", new)).exit_code == 0
    assert mine.read_bytes() == new
    assert mine.with_name("mine.prices.previous").read_bytes() == BUNDLED
    assert not installed_file().exists()
    reset = run("prices", "reset")
    assert (reset.exit_code, "remove the key" in reset.stderr) == (2, True)


def test_use_respects_the_pinned_hash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the settings would refuse at the next start is not put in force."""
    configured(tmp_path, monkeypatch, f"[prices]\nsha256 = '{'0' * 64}'\n")
    result = run("prices", "use", written(tmp_path / "new", BUNDLED))
    assert (result.exit_code, "prices.sha256" in result.stderr) == (2, True)
    assert not installed_file().exists()


def test_use_mends_a_broken_installed_file(tmp_path: Path) -> None:
    """A damaged file in force must not keep a sound one out."""
    installed_file().parent.mkdir(parents=True)
    installed_file().write_bytes(b"broken")
    assert run("prices", "status").exit_code == 2
    result = run("prices", "use", written(tmp_path / "new", BUNDLED))
    assert result.exit_code == 0, result.stderr
    assert "comparing with the bundled prices" in result.stderr
    assert amount() == Decimal("2.5")


def test_a_running_process_takes_the_file_over(tmp_path: Path) -> None:
    """A book that is in use changes with `use`, with another `use` and with `reset`, without a restart."""
    standing = BookInForce(load_settings({}).prices)

    def now() -> Decimal | None:
        return standing.book().price("openai", "gpt-4o", Usage(input_tokens=1_000_000), at=NOW).amount_usd

    assert now() == Decimal("2.5")
    assert not standing.look()
    for rate in ("3", "3.5"):
        assert run("prices", "use", written(tmp_path / "new", with_rate("input", rate))).exit_code == 0
        standing.look()
        assert now() == Decimal(rate)
        assert not standing.look()
    run("prices", "reset")
    standing.look()
    assert now() == Decimal("2.5")


def test_a_running_process_survives_a_broken_file() -> None:
    """A damaged file changes nothing in a process that runs, nor in one that starts; it is a counted fault, once."""
    from farthing.counting import counters  # noqa: PLC0415 - its state is the subject

    running = BookInForce(load_settings({}).prices)
    usage = Usage(input_tokens=1_000_000)
    assert running.book().price("openai", "gpt-4o", usage, at=NOW).amount_usd == Decimal("2.5")
    installed_file().parent.mkdir(parents=True)
    installed_file().write_bytes(b"broken")
    assert not running.look()
    assert not running.look()
    starting = BookInForce(load_settings({}).prices)
    for one in (running, starting):
        assert one.book().price("openai", "gpt-4o", usage, at=NOW).amount_usd == Decimal("2.5")
    assert counters.by_reason("faults") == {"farthing.pricing.installed": 2}
    installed_file().write_bytes(with_rate("input", "3"))
    assert running.look()
    assert running.book().price("openai", "gpt-4o", usage, at=NOW).amount_usd == Decimal(3)
