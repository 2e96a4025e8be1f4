"""What can be billed: every bucket of a bill, the usage it counts, and how buckets contain one another.

A bucket whose dimensions include another's is part of it: `cache_read_audio` is part of `cache_read`, of `input_audio`
and of `input`. A model prices some of the buckets; what a priced bucket counts is its usage less that of the priced
buckets inside it. The registry is the one of genai-prices (`data_units.py`), under our own names.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["BUCKETS", "DISPLAY_ORDER", "TOKEN_BUCKETS", "Unit", "contains"]

MILLION: Final = 1_000_000
THOUSAND: Final = 1_000
HOUR: Final = 3_600


@dataclass(frozen=True, slots=True)
class Unit:
    """One bucket: what it is called, which count of a `Usage` it bills, and for how many units a rate is quoted."""

    bucket: str
    usage_field: str
    price_key: str
    """The name of its rate in genai-prices; empty when that library has none."""
    per: int
    dimensions: frozenset[str]
    """Its place in the containment order, e.g. {tokens, input, cache_read, audio}."""


def contains(whole: Unit, part: Unit) -> bool:
    """Tell whether `part` is `whole` itself or a part of it."""
    return whole.dimensions <= part.dimensions


_TABLE: Final = (
    # bucket, field of Usage, price key of genai-prices, quoted per, dimensions
    ("input", "input_tokens", "input_mtok", MILLION, "tokens input"),
    ("input_text", "input_text_tokens", "input_text_mtok", MILLION, "tokens input text"),
    ("cache_read", "cache_read_tokens", "cache_read_mtok", MILLION, "tokens input cache_read"),
    ("cache_write", "cache_write_tokens", "cache_write_mtok", MILLION, "tokens input cache_write"),
    ("cache_write_5m", "cache_write_5m_tokens", "cache_write_5m_mtok", MILLION, "tokens input cache_write 5m"),
    ("cache_write_1h", "cache_write_1h_tokens", "cache_write_1h_mtok", MILLION, "tokens input cache_write 1h"),
    ("input_audio", "input_audio_tokens", "input_audio_mtok", MILLION, "tokens input audio"),
    ("cache_read_audio", "cache_read_audio_tokens", "cache_audio_read_mtok", MILLION, "tokens input audio cache_read"),
    ("input_image", "input_image_tokens", "input_image_mtok", MILLION, "tokens input image"),
    ("cache_read_image", "cache_read_image_tokens", "cache_image_read_mtok", MILLION, "tokens input image cache_read"),
    ("input_video", "input_video_tokens", "input_video_mtok", MILLION, "tokens input video"),
    ("cache_read_video", "cache_read_video_tokens", "cache_video_read_mtok", MILLION, "tokens input video cache_read"),
    ("input_tool", "input_tool_tokens", "input_tool_mtok", MILLION, "tokens input tool"),
    ("output", "output_tokens", "output_mtok", MILLION, "tokens output"),
    ("reasoning", "output_reasoning_tokens", "output_reasoning_mtok", MILLION, "tokens output reasoning"),
    ("citation", "output_citation_tokens", "output_citation_mtok", MILLION, "tokens output citation"),
    ("output_audio", "output_audio_tokens", "output_audio_mtok", MILLION, "tokens output audio"),
    ("output_image", "output_image_tokens", "output_image_mtok", MILLION, "tokens output image"),
    ("output_video", "output_video_tokens", "output_video_mtok", MILLION, "tokens output video"),
    ("input_characters", "input_characters", "input_mchars", MILLION, "characters input"),
    ("input_messages", "input_messages", "input_text_messages_kcount", THOUSAND, "messages input"),
    ("audio_seconds", "audio_seconds", "audio_hours", HOUR, "durations audio"),
    ("input_audio_seconds", "input_audio_seconds", "input_audio_hours", HOUR, "durations audio input"),
    ("document_pages", "document_pages", "input_document_kpages", THOUSAND, "pages"),
    (
        "annotated_document_pages",
        "annotated_document_pages",
        "input_annotated_document_kpages",
        THOUSAND,
        "pages annotated",
    ),
    ("output_images", "output_images", "", 1, "pictures"),
    ("web_searches", "web_searches", "web_searches_kcount", THOUSAND, "tool web_search"),
    ("social_searches", "social_searches", "social_searches_kcount", THOUSAND, "tool social_search"),
    ("file_searches", "file_searches", "storage_searches_kcount", THOUSAND, "tool storage_search"),
    ("code_executions", "code_executions", "code_executions_kcount", THOUSAND, "tool code_execution"),
    ("rerank_searches", "rerank_searches", "rerank_searches_kcount", THOUSAND, "rerank"),
    ("requests", "", "requests_kcount", THOUSAND, "requests"),
)

BUCKETS: Final[dict[str, Unit]] = {
    bucket: Unit(bucket, field, key, per, frozenset(dimensions.split()))
    for bucket, field, key, per, dimensions in _TABLE
}
"""Every bucket by its name, in the order in which a bill lists them."""

DISPLAY_ORDER: Final = {bucket: position for position, bucket in enumerate(BUCKETS)}

TOKEN_BUCKETS: Final = tuple(bucket for bucket, unit in BUCKETS.items() if "tokens" in unit.dimensions)
"""The buckets that count tokens; a discount of a service tier applies to these, not to tool calls."""
