"""The policy in force: asked by the worker for every call, and by the caller's thread only where it may refuse."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from farthing.errors import AttributionError, ConfigurationError
from farthing.guard import log
from farthing.policy import Layer, Policy
from farthing.policy.cardinality import Cardinality
from farthing.policy.decision import lacking
from farthing.policy.values import MARKERS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from datetime import date

    from farthing.counting import Counters
    from farthing.envelope import Attribution
    from farthing.policy import Verdict
    from farthing.settings import Settings

__all__ = ["Rules", "Tagged", "layers_of", "policy_of"]

_MAX_TOLD: Final = 500
_HOW: Final = "Send it with `with farthing.attribute({example}): ...`"


class Tagged(Protocol):
    """What carries tags: a run, or what is about to become one."""

    @property
    def own_tags(self) -> Mapping[str, object]:
        """The call's own."""
        ...

    @property
    def scope_tags(self) -> Mapping[str, object]:
        """Those of the enclosing attribute() blocks."""
        ...

    @property
    def handler_tags(self) -> Mapping[str, object]:
        """The handler's defaults."""
        ...

    @property
    def parent(self) -> Tagged | None:
        """What encloses it."""
        ...

    @property
    def outer(self) -> Tagged | None:
        """The call of an outer layer that this one serves."""
        ...


def layers_of(run: Tagged, weakest: tuple[Layer, ...]) -> Iterator[Layer]:
    """Order the tags of a run by Law 6: call, enclosing attribute(), handler, process, policy.

    Raises:
        Nothing.
    """
    lineage: list[Tagged] = []
    step: Tagged | None = run
    while step is not None:
        lineage.append(step)
        if step.outer is not None and step is run:
            lineage.append(step.outer)
        step = step.parent
    for link in lineage:
        if link.own_tags:
            yield Layer("call", link.own_tags, strict=False)
    for link in lineage:
        if link.scope_tags:
            yield Layer("attribute", link.scope_tags, strict=True)
    # A gateway's logger is installed for a whole process: below another layer its defaults are the weakest.
    for link in lineage if run.outer is None else [*lineage[1:], run]:
        if link.handler_tags:
            yield Layer("handler", link.handler_tags, strict=True)
    yield from weakest


def policy_of(settings: Settings, environ: Mapping[str, str] | None = None) -> Policy:
    """Build the policy that settings describe.

    Args:
        settings: Validated settings.
        environ: The environment, for the key of `[policy.hashing]`; None is the process's.

    Raises:
        ConfigurationError: Aliases lead in a circle, or a hash key is too short.
    """
    variables = os.environ if environ is None else environ
    name = settings.policy.hashing.key_variable
    key = variables.get(name, "").encode() if settings.policy.hashing.dimensions else b""
    if key and len(key) < 16:  # noqa: PLR2004 - see Hashing.key_variable
        raise ConfigurationError(f"{name}: is too short to hide anything; give 16 characters or more")
    return Policy(
        extra_dimensions=settings.extra_dimensions,
        aliases=settings.aliases,
        document=settings.policy,
        hash_key=key or None,
    )


class Rules:
    """The policy, the process's own tags, and whether refusing is allowed; replaced as one when the file changes.

    Args:
        policy: Decides.
        weakest: The tags of the process.
        enforce: Whether `reject` may refuse; False makes it a warning.
        counters: Where refusals are counted.
        on_refusal: Called before a refusal is raised: a process whose every call is refused has no event that would
            start the worker, and only the worker reads a policy that was mended.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        weakest: tuple[Layer, ...],
        enforce: bool,
        counters: Counters,
        on_refusal: Callable[[], None],
    ) -> None:
        self._counters = counters
        self._on_refusal = on_refusal
        self._cardinality = Cardinality()
        self._told: set[str] = set()
        self.replace(policy, weakest, enforce=enforce)

    def replace(self, policy: Policy, weakest: tuple[Layer, ...], *, enforce: bool) -> None:
        """Put another policy in force.

        Raises:
            Nothing.
        """
        self._standing = policy, weakest
        self.may_refuse = enforce
        self.enforcing = enforce and policy.document.refuses()
        """Whether a call can be refused at all; asked on the caller's thread."""

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._standing[0]

    def resolve(self, run: Tagged, *, day: date | None = None) -> Verdict:
        """Decide the tags of a run.

        Raises:
            Nothing.
        """
        policy, weakest = self._standing
        return policy.resolve(layers_of(run, weakest), day=day)

    def settle(self, run: Tagged, *, day: date | None = None) -> tuple[Attribution, dict[str, str], tuple[str, ...]]:
        """Decide the tags of a call for good: counted against the limits, with what is to be said said once.

        Returns:
            The tags, the source of each, and the violations.

        Raises:
            Nothing.
        """
        policy, weakest = self._standing
        verdict = policy.resolve(layers_of(run, weakest), day=day)
        admitted = self._cardinality.admit(policy, verdict.attribution)
        for complaint in verdict.complaints:
            self._tell(f"{complaint.dimension}:{complaint.reason}", complaint.sentence)
        for key, sentence in admitted.remarks:
            self._tell(key, sentence)
        violations = verdict.violations
        if admitted.violations:
            violations = tuple(dict.fromkeys((*violations, *admitted.violations)))
        return admitted.attribution, verdict.sources, violations

    def require(self, tagged: Tagged, *, names: Iterable[str] = (), how: str = _HOW) -> None:
        """Refuse a call that the policy, or who asks, does not let go out with these tags.

        Args:
            tagged: The tags of the call.
            names: Dimensions that it must have, whatever the policy says.
            how: Says how they are sent; `{example}` and `{pairs}` are replaced.

        Raises:
            AttributionError: Something is missing or not allowed, and refusing is not switched off.
        """
        if not self.may_refuse:
            return
        policy, weakest = self._standing
        verdict = policy.resolve(layers_of(tagged, weakest))
        found = {each.dimension: (each.reason, each.sentence) for each in verdict.refusals}
        values = dict(verdict.attribution.items())
        for written in names:
            name = policy.dimension(written)
            if name is None:
                found[written] = ("undeclared", f"{written!r} is no dimension; declare it in extra_dimensions")
            elif values.get(name) in (None, *MARKERS):
                found.setdefault(name, ("missing", f"{lacking(name, verdict.violations)}; require() asks for it"))
        if not found:
            return
        self._on_refusal()
        for name, (reason, _) in found.items():
            self._counters.add("refused", f"{name}:{reason}")
        example = ", ".join(f'{name}="..."' for name in found)
        pairs = ", ".join(f'"{name}": "..."' for name in found)
        sentences = " ".join(said if said.endswith(("?", ".")) else f"{said}." for _, said in found.values())
        way = how.replace("{example}", example).replace("{pairs}", pairs)
        raise AttributionError(
            f"refused before anything was sent: {sentences} {way}",
            problems=tuple(f"{name}:{reason}" for name, (reason, _) in found.items()),
        )

    def _tell(self, key: str, sentence: str) -> None:
        if key not in self._told and len(self._told) < _MAX_TOLD:
            self._told.add(key)
            log.warning("farthing: %s (the call and its cost are recorded; later ones are only counted)", sentence)
