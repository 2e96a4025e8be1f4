"""Every attribute and metric name that farthing writes, each with the convention it comes from.

The constants of `opentelemetry.semconv` are not imported: its GenAI part is marked deprecated because the conventions
moved to a repository of their own, and every release renames some. These are the v1.41.0 names, which today's
backends read.
"""

from __future__ import annotations

from typing import Final

# OpenTelemetry GenAI conventions, spans
OPERATION_NAME: Final = "gen_ai.operation.name"
PROVIDER_NAME: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
RESPONSE_ID: Final = "gen_ai.response.id"
RESPONSE_MODEL: Final = "gen_ai.response.model"
RESPONSE_FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
RESPONSE_TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
USAGE_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
USAGE_CACHE_READ: Final = "gen_ai.usage.cache_read.input_tokens"
USAGE_CACHE_CREATION: Final = "gen_ai.usage.cache_creation.input_tokens"
USAGE_REASONING: Final = "gen_ai.usage.reasoning.output_tokens"
WORKFLOW_NAME: Final = "gen_ai.workflow.name"
AGENT_NAME: Final = "gen_ai.agent.name"
TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 - counts tokens of text, not of access

# OpenTelemetry general conventions
ERROR_TYPE: Final = "error.type"
USER_ID: Final = "user.id"
SESSION_ID: Final = "session.id"
ENVIRONMENT: Final = "deployment.environment.name"

# What OpenLIT, LiteLLM, Langfuse and Grafana's dashboards read as cost; no merged convention exists
# (semantic-conventions-genai pull request 443 is open).
USAGE_COST: Final = "gen_ai.usage.cost"

# Ours
CALL_ID: Final = "farthing.call.id"
OPERATION_ID: Final = "farthing.operation.id"
ATTEMPT: Final = "farthing.attempt"
OUTCOME: Final = "farthing.outcome"
SERVICE_TIER: Final = "farthing.service_tier"
FRAMEWORK: Final = "farthing.framework"
VIOLATIONS: Final = "farthing.violations"
ESTIMATED_INPUT_TOKENS: Final = "farthing.estimated.input_tokens"
ESTIMATED_OUTPUT_TOKENS: Final = "farthing.estimated.output_tokens"
COST_STATUS: Final = "farthing.cost.status"

# Metrics, OpenTelemetry GenAI conventions v1.41.0
METRIC_DURATION: Final = "gen_ai.client.operation.duration"
METRIC_TOKENS: Final = "gen_ai.client.token.usage"
METRIC_FIRST_CHUNK: Final = "gen_ai.client.operation.time_to_first_chunk"
# Metrics of ours
METRIC_COST: Final = "farthing.cost"
METRIC_ESTIMATED: Final = "farthing.cost.estimated"
METRIC_CALLS: Final = "farthing.calls"
METRIC_EVENTS: Final = "farthing.events"
METRIC_WAITING: Final = "farthing.waiting"
METRIC_LAG: Final = "farthing.lag"

STANDARD_DIMENSIONS: Final = {"user_id": USER_ID, "session_id": SESSION_ID, "environment": ENVIRONMENT}
"""Dimensions that have a name in the general conventions."""


def dimension_attribute(name: str, *, prefix: str) -> str:
    """Give the attribute that carries a dimension: a standard name where one exists, else under the prefix.

    Raises:
        Nothing.
    """
    standard = STANDARD_DIMENSIONS.get(name)
    if standard is not None:
        return standard
    return f"{prefix}.{name}" if prefix else name
