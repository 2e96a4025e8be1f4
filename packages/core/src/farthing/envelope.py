"""The attribution envelope: who spent what on one provider attempt. The vocabulary of the whole house.

Every class here is frozen and validated when built, and `Call` is what one line of the ledger holds. Token counts are
inclusive, as the OpenTelemetry GenAI conventions define them: `input_tokens` holds fresh, cache-read and cache-write
tokens together, `output_tokens` holds reasoning. A field that is None was not reported; zero was reported as zero.
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, model_validator

__all__ = [
    "DIMENSIONS",
    "SCHEMA_VERSION",
    "Attribution",
    "Call",
    "Cost",
    "CostLine",
    "CostStatus",
    "Outcome",
    "Provenance",
    "Scope",
    "Usage",
]

SCHEMA_VERSION: Final = "farthing.call/1"

DIMENSIONS: Final = (
    "feature",
    "route",
    "task_type",
    "team",
    "tenant",
    "environment",
    "plan",
    "user_id",
    "session_id",
    "job_id",
)
"""The dimensions every installation has; farthing.toml may declare more."""

CostStatus = Literal["priced", "free", "cache_hit", "not_billed", "estimated", "reported", "unpriced", "unreported"]
"""What is known of a cost.

priced: computed from reported usage and a known price; free: the price book says it costs nothing; cache_hit: answered
from a framework's cache, nothing was bought; not_billed: the provider answered with an error; estimated: the price is
an estimate, or, where `amount_usd` is None, the usage never arrived and `estimated_usd` says what it may have cost;
reported: the provider's own figure, where only that is known or it is what the provider bills by; unpriced: usage is
known, the price is not; unreported: the provider's usage never arrived.
"""

Outcome = Literal["success", "error", "cancelled", "abandoned"]
"""How an attempt ended; abandoned means that nobody ever said."""


def _plain(amount: Decimal) -> str:
    """Render without exponent, so that every reader of the ledger can parse it."""
    return format(amount, "f")


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        message = "a naive time is ambiguous: give it a timezone"
        raise ValueError(message)
    return moment.astimezone(UTC)


Money = Annotated[Decimal, Field(allow_inf_nan=False), PlainSerializer(_plain, return_type=str, when_used="json")]
"""US dollars, exact; a plain decimal string in JSON."""

Moment = Annotated[datetime, AfterValidator(_utc)]
"""An aware time, held in UTC."""

Count = Annotated[int, Field(ge=0, strict=True)]
"""A count of tokens or pieces: a whole number, never a bool, never negative."""

Quantity = Annotated[
    Decimal,
    Field(ge=0, allow_inf_nan=False),
    PlainSerializer(_plain, return_type=str, when_used="json"),
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def assembled(cls, values: dict[str, Any]) -> Self:
        """Build it from values that are valid by construction, at a tenth of the time that validating takes.

        Args:
            values: Every field, each of its own type; the dict becomes the object's.

        Raises:
            Nothing: who cannot vouch for the values calls the class instead.
        """
        made = cls.__new__(cls)
        object.__setattr__(made, "__dict__", values)
        object.__setattr__(made, "__pydantic_fields_set__", set(values))
        object.__setattr__(made, "__pydantic_extra__", None)
        object.__setattr__(made, "__pydantic_private__", None)
        return made


class Usage(_Frozen):
    """What a provider says it processed for one attempt, in inclusive counts.

    Source of the inclusive rule: OpenTelemetry GenAI conventions, `gen_ai.usage.input_tokens`.

    Raises:
        pydantic.ValidationError: A count is negative, a bool or no whole number, or parts exceed their whole.
    """

    input_tokens: Count | None = None
    """All input: fresh + cache read + cache write, every modality."""
    output_tokens: Count | None = None
    """All output, reasoning inside, every modality."""
    cache_read_tokens: Count | None = None
    """Part of input_tokens."""
    cache_write_tokens: Count | None = None
    """Part of input_tokens; the two lifetimes below are parts of it, the rest has an unknown lifetime."""
    cache_write_5m_tokens: Count | None = None
    cache_write_1h_tokens: Count | None = None
    output_reasoning_tokens: Count | None = None
    """Part of output_tokens."""
    input_audio_tokens: Count | None = None
    cache_read_audio_tokens: Count | None = None
    """Part of both cache_read_tokens and input_audio_tokens."""
    cache_read_image_tokens: Count | None = None
    """Part of both cache_read_tokens and input_image_tokens."""
    output_audio_tokens: Count | None = None
    input_image_tokens: Count | None = None
    output_image_tokens: Count | None = None
    output_video_tokens: Count | None = None
    output_citation_tokens: Count | None = None
    """Part of output_tokens: what Perplexity quotes from its sources."""
    input_video_tokens: Count | None = None
    input_tool_tokens: Count | None = None
    """Part of input_tokens: what a provider-side tool put into the prompt."""
    web_searches: Count | None = None
    social_searches: Count | None = None
    file_searches: Count | None = None
    rerank_searches: Count | None = None
    code_executions: Count | None = None
    output_images: Count | None = None
    input_characters: Count | None = None
    input_messages: Count | None = None
    document_pages: Count | None = None
    annotated_document_pages: Count | None = None
    """Part of document_pages."""
    audio_seconds: Quantity | None = None

    @model_validator(mode="after")
    def _parts_fit(self) -> Self:
        short, long = self.cache_write_5m_tokens, self.cache_write_1h_tokens
        if (short is not None or long is not None) and self.cache_write_tokens is None:
            object.__setattr__(self, "cache_write_tokens", (short or 0) + (long or 0))
        counts = self.__dict__
        for whole_name, part_names in _WHOLES:
            parts = 0
            for name in part_names:
                parts += counts[name] or 0
            if parts and parts > (counts[whole_name] or 0):
                listed = " + ".join(name for name in part_names if counts[name])
                message = f"{listed} = {parts} is more than {whole_name} = {counts[whole_name]}"
                raise ValueError(message)
        return self


_WHOLES: Final = (
    ("input_tokens", ("cache_read_tokens", "cache_write_tokens")),
    ("cache_write_tokens", ("cache_write_5m_tokens", "cache_write_1h_tokens")),
    ("input_tokens", ("input_audio_tokens", "input_image_tokens", "input_video_tokens")),
    ("input_tokens", ("input_tool_tokens",)),
    ("cache_read_tokens", ("cache_read_audio_tokens", "cache_read_image_tokens")),
    ("input_audio_tokens", ("cache_read_audio_tokens",)),
    ("input_image_tokens", ("cache_read_image_tokens",)),
    (
        "output_tokens",
        (
            "output_reasoning_tokens",
            "output_citation_tokens",
            "output_audio_tokens",
            "output_image_tokens",
            "output_video_tokens",
        ),
    ),
    ("document_pages", ("annotated_document_pages",)),
)


class CostLine(_Frozen):
    """One line of a bill: so many units of one bucket at one rate."""

    quantity: Quantity
    rate_usd: Money
    """US dollars for `per` units."""
    per: int = 1_000_000
    amount_usd: Money


class Provenance(_Frozen):
    """Where a price came from, so that a figure can be defended years later."""

    engine: str
    engine_version: str
    data_source: str | None = None
    """bundled, file, url or override."""
    data_version: str | None = None
    """Hash or date of the price data."""
    provider_id: str | None = None
    model_id: str | None = None
    """The price book's own id of the model that matched."""
    matched_by: str | None = None
    """exact, prefix, alias, override, ...: how the requested name found that model."""
    effective_from: str | None = None
    """ISO date since when this price holds; None when the data gives no beginning."""
    tier: str | None = None
    """The tier or context that was priced."""
    overrides: tuple[str, ...] = ()
    corrections: tuple[str, ...] = ()


class Cost(_Frozen):
    """What one attempt cost in US dollars, or why that is not known."""

    amount_usd: Money | None
    """None when unknown; never zero for unknown."""
    status: CostStatus
    source: str | None = None
    """override, provider, correction, catalog, cache; None when unknown."""
    breakdown: dict[str, CostLine] = Field(default_factory=dict[str, CostLine])
    """The bill by bucket: input, cache_read, cache_write_5m, output, web_searches, ..."""
    flags: tuple[str, ...] = ()
    """What a careful reader should know: context-not-priced, loose-match, cache-split-assumed, ..."""
    list_amount_usd: Money | None = None
    """What the same usage costs at list price, when an override changed it or the provider's own figure is the bill."""
    reported_usd: Money | None = None
    """What the provider or gateway itself said this attempt cost."""
    saved_usd: Money | None = None
    """What a cache hit would have cost."""
    estimated_usd: Money | None = None
    """What a call without usage may have cost, where the user asked for estimates; never part of `amount_usd`."""
    provenance: Provenance | None = None


class Attribution(BaseModel):
    """Who is spending: the standard dimensions, and the extra ones that farthing.toml declares."""

    model_config = ConfigDict(frozen=True, extra="allow")
    # pydantic's way to type extras
    __pydantic_extra__: dict[str, str]  # pyright: ignore[reportIncompatibleVariableOverride]

    feature: str | None = None
    route: str | None = None
    task_type: str | None = None
    team: str | None = None
    tenant: str | None = None
    environment: str | None = None
    plan: str | None = None
    user_id: str | None = None
    session_id: str | None = None
    job_id: str | None = None

    def items(self) -> list[tuple[str, str]]:
        """Give the dimensions that have a value, standard ones first."""
        values: dict[str, Any] = self.__dict__ | (self.__pydantic_extra__ or {})
        return [(name, value) for name, value in values.items() if value is not None]


class Scope(_Frozen):
    """One enclosing piece of work: a chain, an agent, a crew, a task."""

    kind: str
    """workflow, agent or task."""
    name: str
    span_id: str
    """16 hex digits."""
    started_at: Moment


class Call(_Frozen):
    """The attribution envelope: one frozen record of one provider attempt, and one line of the ledger."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    schema_version: Literal["farthing.call/1"] = Field(default=SCHEMA_VERSION, alias="schema")
    call_id: str
    operation_id: str
    """Shared by all attempts of one logical call: retries and fallbacks."""
    attempt: int = 1
    trace_id: str
    """32 hex digits."""
    span_id: str
    """16 hex digits."""
    parent_span_id: str | None = None
    started_at: Moment
    ended_at: Moment
    framework: str
    operation: str
    """`gen_ai.operation.name`: chat, text_completion, embeddings, ..."""
    provider: str | None = None
    """`gen_ai.provider.name`."""
    request_model: str | None = None
    response_model: str | None = None
    response_id: str | None = None
    service_tier: str | None = None
    """The tier that was served, else the one that was asked for."""
    price_context: dict[str, str] = Field(default_factory=dict[str, str])
    """What else decided the price: region, inference_geo, deployment, ...; so that it can be priced anew."""
    attribution: Attribution
    attribution_source: dict[str, str] = Field(default_factory=dict[str, str])
    """For each dimension: call, attribute, handler, process or policy."""
    violations: tuple[str, ...] = ()
    """What the policy had to change or refuse in the tags, as `dimension:reason`."""
    usage: Usage | None = None
    """None when the provider's usage never arrived."""
    estimated_usage: Usage | None = None
    """What `cost.estimated_usd` rests on; never part of `usage`."""
    cost: Cost
    outcome: Outcome
    error_type: str | None = None
    """A code or a class name, never a text."""
    finish_reason: str | None = None
    streaming: bool = False
    time_to_first_chunk_seconds: float | None = None
    scopes: tuple[Scope, ...] = ()
    """The enclosing work, outermost first."""
    details: dict[str, str] = Field(default_factory=dict[str, str])
    """Low-cardinality names a framework gives for free: node, agent, deployment."""
    service_name: str | None = None
    service_instance_id: str | None = None

    @classmethod
    def assembled(cls, values: dict[str, Any]) -> Self:
        """Build a Call; the values are every field but schema_version."""
        values["schema_version"] = SCHEMA_VERSION
        return super().assembled(values)
