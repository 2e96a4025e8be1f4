"""`farthing policy`: begin one, check it, and see what it does to some tags."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from farthing_reports.faults import CommandError

if TYPE_CHECKING:
    from farthing.policy import Policy, PolicyDocument, Verdict
    from farthing.settings import Settings

__all__ = ["policy_app"]

policy_app: Final = typer.Typer(help="The policy: which tags exist, and which calls need which.", no_args_is_help=True)

FileArgument = Annotated[
    Path | None, typer.Argument(metavar="[FILE]", help="Without it, the one that farthing would read here.")
]

_ACTS: Final = {"mark": "is marked", "warn": "is marked and logged once", "reject": "is refused before it is sent"}

TEMPLATE: Final = """\
# What every LLM call must say about who pays for it. A change holds within a second, without a restart.
# `farthing policy check` reads this file, `farthing policy explain feature=x environment=production` tries it out.
#:schema ./farthing.schema.json

# Further dimensions beside feature, route, task_type, team, tenant, environment, plan, user_id, session_id, job_id:
# extra_dimensions = ["cost_center"]

[policy.environments.production]
required = ["feature", "team"]
when_missing = "mark"        # then "warn", then "reject": refused before money is spent

[policy.environments."*"]    # every other environment, and none
defaults = { team = "platform-sandbox" }

# [[policy.routes]]           # customer-facing routes must say for whom
# pattern = "api/public/*"
# required = ["tenant"]
# when_missing = "warn"

[policy.dimensions.environment]
aliases = { prod = "production", prd = "production", stage = "staging", dev = "development" }

# [policy.dimensions.team]    # a closed list: anything else is marked, with what was meant
# values = ["growth", "platform", "platform-sandbox"]
# when_unlisted = "warn"

# [[policy.renames]]          # from this day on; reports read history by the new name as well
# dimension = "feature"
# from = "mailer"
# to = "email-generator"
# on = 2026-01-01

# [policy.hashing]            # user ids leave the process only as keyed hashes; the key stands in FARTHING_HASH_KEY
# dimensions = ["user_id"]
"""


@policy_app.command("init")
def init(
    file: Annotated[Path, typer.Argument(metavar="[FILE]", help="Where to write it.")] = Path("farthing.toml"),
) -> None:
    """Write a policy to begin with: it marks, and refuses nothing yet.

    **Example:** `farthing policy init && farthing policy schema > farthing.schema.json`
    """
    if file.exists():
        raise CommandError(f"{file}: exists already; name another file, or add what `farthing policy schema` describes")
    try:
        file.write_text(TEMPLATE, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file}: cannot be written ({error.strerror})") from None
    typer.echo(f"{file}: written. Next: farthing policy check")


@policy_app.command("check")
def check(file: FileArgument = None) -> None:
    """Read a policy and say in sentences what it does. Exit code 2 and one sentence if it cannot be used.

    **Example:** `farthing policy check`
    """
    from farthing.rules import policy_of  # noqa: PLC0415 - the settings are loaded by those who need them

    settings, place = _settings(file)
    policy_of(settings)
    typer.echo(f"{place}: can be used.")
    for sentence in sentences(settings.policy):
        typer.echo(f"  {sentence}")
    hashing = settings.policy.hashing
    if hashing.dimensions and not os.environ.get(hashing.key_variable):
        typer.echo(f"  {hashing.key_variable} is not set here: without the key these values become __invalid__.")
    if settings.policy.refuses() and not settings.enforce:
        typer.echo('  "reject" only warns: enforce is false.')


@policy_app.command("explain")
def explain(
    tags: Annotated[list[str], typer.Argument(metavar="NAME=VALUE...", help="As a call would carry them.")],
    *,
    file: Annotated[Path | None, typer.Option("--file", metavar="FILE", help="Another policy.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Show what becomes of some tags: how they are written, what is missing, and whether the call would go out.

    Exit code 1 if it would be refused.

    **Example:** `farthing policy explain feature="Email Generator" environment=prod`
    """
    from farthing.policy import Layer  # noqa: PLC0415 - see above
    from farthing.rules import policy_of  # noqa: PLC0415 - see above

    settings, _ = _settings(file)
    policy = policy_of(settings)
    written: dict[str, object] = {}
    for tag in tags:
        name, equals, value = tag.partition("=")
        if not equals:
            raise CommandError(f'{tag!r}: is no tag; write NAME=VALUE, e.g. feature="email generator"')
        written[name] = value
    layers = [Layer("call", written, strict=True), Layer("process", settings.defaults, strict=True)]
    verdict = policy.resolve(layers)
    refused = bool(verdict.refusals) and settings.enforce
    if as_json:
        typer.echo(json.dumps(_as_json(verdict, refused=refused), indent=2))
    else:
        _print(policy, verdict, written, refused=refused)
    if refused:
        raise typer.Exit(1)


@policy_app.command("schema")
def schema() -> None:
    """Print the JSON Schema of farthing.toml, for editors.

    **Example:** `farthing policy schema > farthing.schema.json`
    """
    from farthing.settings import Settings  # noqa: PLC0415 - see above

    typer.echo(json.dumps(Settings.model_json_schema(by_alias=True), indent=2))


def sentences(document: PolicyDocument) -> list[str]:
    """Say what a policy does, a rule a sentence."""
    said = [*_about_calls(document), *_about_values(document)]
    said += [f"From {each.on} on, {each.dimension} {each.old!r} is {each.new!r}." for each in document.renames]
    if document.hashing.dimensions:
        said.append(
            f"{', '.join(document.hashing.dimensions)}: only as keyed hashes ({document.hashing.key_variable})."
        )
    said += _about_others(document)
    off = [name for name in ("email", "secret", "phone", "free_text") if not getattr(document.guards, name)]
    if off:
        said.append(f"Not looked for in tags: {', '.join(off)}.")
    return said or ["It requires nothing."]


def _about_calls(document: PolicyDocument) -> list[str]:
    """Say what calls must have, and what they are given."""
    said: list[str] = []
    for name, rules in document.environments.items():
        where = "Elsewhere" if name == "*" else f"In {name}"
        if rules.when_missing != "mark" and not rules.required:
            said.append(f"{where} nothing is required, so when_missing = {rules.when_missing!r} does nothing.")
        if rules.required:
            said.append(f"{where} a call without {' or '.join(rules.required)} {_ACTS[rules.when_missing]}.")
        said += [f"{where} {dimension} is {value!r} by default." for dimension, value in rules.defaults.items()]
    for rule in document.routes:
        where = f" in {', '.join(rule.environments)}" if rule.environments else ""
        if rule.required:
            needs = " or ".join(rule.required)
            said.append(f"On routes {rule.pattern}{where} a call without {needs} {_ACTS[rule.when_missing]}.")
        else:
            said.append(f"On routes {rule.pattern}{where} nothing more is required: the rule has no `required`.")
    return said


def _about_values(document: PolicyDocument) -> list[str]:
    """Say which values a dimension takes."""
    said: list[str] = []
    for name, rules in document.dimensions.items():
        if rules.values is not None:
            said.append(f"{name} takes {len(rules.values)} values; another one {_ACTS[rules.when_unlisted]}.")
        elif rules.when_unlisted != "mark":
            said.append(f"{name} has no `values`, so when_unlisted = {rules.when_unlisted!r} does nothing.")
        if rules.aliases:
            said.append(f"{name} has {len(rules.aliases)} other spellings.")
    return said


def _about_others(document: PolicyDocument) -> list[str]:
    """Say what a policy means for a gateway's callers and for providers."""
    said: list[str] = []
    if document.gateway.locked:
        said.append(f"In a gateway {', '.join(document.gateway.locked)} can only come from the key or its team.")
    if document.gateway.bills:
        said.append("Calls through a LiteLLM proxy are billed by the proxy, not here.")
    told = document.corroboration
    if told.providers:
        said.append(f"{', '.join(told.dimensions)} are written into requests to {', '.join(told.providers)}.")
    return said


def _settings(file: Path | None) -> tuple[Settings, str]:
    from farthing.settings import load_settings, settings_file  # noqa: PLC0415 - see above

    if file is not None and not file.is_file():
        raise CommandError(f"{file}: is no file; `farthing policy init {file}` writes one")
    found = file or settings_file()
    if found is None:
        raise CommandError("there is no farthing.toml here; `farthing policy init` writes one")
    return load_settings({}, path=found), str(found)


def _as_json(verdict: Verdict, *, refused: bool) -> dict[str, object]:
    return {
        "tags": dict(verdict.attribution.items()),
        "sources": verdict.sources,
        "violations": list(verdict.violations),
        "complaints": [each.sentence for each in verdict.complaints],
        "refused": refused,
    }


def _print(policy: Policy, verdict: Verdict, written: dict[str, object], *, refused: bool) -> None:
    console = Console(highlight=False, soft_wrap=True)
    table = Table("dimension", "written", "recorded", "from", box=None)
    asked = {policy.dimension(name): str(value) for name, value in written.items()}
    for name, value in verdict.attribution.items():
        source = verdict.sources[name]
        table.add_row(name, escape(asked.get(name, "")) if source == "call" else "", escape(value), source)
    console.print(table)
    said = {f"{each.dimension}:{each.reason}": each.sentence for each in verdict.complaints}
    for violation in verdict.violations:
        console.print(f"{violation}  {said.get(violation, '')}".rstrip(), markup=False)
    end = "The call is refused before it is sent." if refused else "The call goes out."
    console.print(end, markup=False)
