"""Values made from JSON schemas."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from farthing.testing.provider.schema import example_of

if TYPE_CHECKING:
    from farthing.testing.provider.wire_json import JSON, JSONObject

_NONE: list[JSON] = []


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({"type": "string"}, "example"),
        ({"type": "string", "minLength": 9}, "examplexx"),
        ({"type": "string", "maxLength": 2}, "ex"),
        ({"type": "string", "format": "date"}, "2026-01-01"),
        ({"type": "integer", "minimum": 5}, 5),
        ({"type": "integer", "maximum": 0}, 0),
        ({"type": "number", "exclusiveMinimum": 3}, 4),
        ({"type": "boolean"}, True),
        ({"type": "null"}, None),
        ({"type": ["null", "integer"]}, 1),
        ({"enum": ["b", "a"]}, "b"),
        ({"const": 7}, 7),
        ({"default": [1]}, [1]),
        ({"type": "array", "items": {"type": "integer"}, "minItems": 2}, [1, 1]),
        ({"type": "array", "items": {"type": "integer"}}, _NONE),
        ({"anyOf": [{"type": "integer"}, {"type": "null"}]}, 1),
        (
            {
                "allOf": [
                    {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                    {"properties": {"b": {"minLength": 1}}, "required": ["b"]},
                ]
            },
            {"a": 1, "b": "example"},
        ),
        (
            {
                "$defs": {"city": {"type": "object", "properties": {"n": {"type": "STRING"}}, "required": ["n"]}},
                "properties": {"c": {"$ref": "#/$defs/city"}, "optional": {"type": "string"}},
                "required": ["c"],
            },
            {"c": {"n": "example"}},
        ),
    ],
)
def test_smallest_value(schema: JSONObject, expected: JSON) -> None:
    """A value that breaks its schema makes the client's own parser fail instead of the code under test."""
    assert example_of(schema) == expected


def test_recursive_schema_ends() -> None:
    """A schema that requires itself must not hang the server."""
    node: JSONObject = {"type": "object", "properties": {"next": {"$ref": "#"}}, "required": ["next"]}
    assert "next" in str(example_of(node))
