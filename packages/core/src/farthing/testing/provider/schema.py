"""The smallest plausible value of a JSON schema, for tool arguments and structured output."""

from __future__ import annotations

from collections.abc import Mapping

from farthing.testing.provider.wire_json import JSON, JSONObject, as_int, as_list, as_object, as_text

_DEPTH_LIMIT = 12

_FORMATS: Mapping[str, str] = {
    "date-time": "2026-01-01T00:00:00Z",
    "date": "2026-01-01",
    "time": "00:00:00Z",
    "email": "user@example.com",
    "uri": "https://example.com/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def example_of(schema: JSONObject) -> JSON:
    """Build the smallest plausible value: required properties only, first of each choice. Raises: nothing."""
    return _example(schema, schema, 0)


def _example(schema: JSONObject, root: JSONObject, depth: int) -> JSON:
    if depth > _DEPTH_LIMIT:  # a recursive schema whose optional part is marked required has no finite value
        return None
    for given in ("const", "default"):
        if given in schema:
            return schema[given]
    enumeration = as_list(schema.get("enum"))
    if enumeration:
        return enumeration[0]
    inner = _stands_for(schema, root)
    if inner is not None:
        return _example(inner, root, depth + 1)
    merged = as_list(schema.get("allOf"))
    return _merge(merged, root, depth) if merged else _of_type(_type_of(schema), schema, root, depth)


def _stands_for(schema: JSONObject, root: JSONObject) -> JSONObject | None:
    """Give the schema that this one refers to or offers first, None when it describes a value itself."""
    reference = as_text(schema.get("$ref"))
    if reference is not None:
        return _resolve(reference, root)
    for union in ("anyOf", "oneOf"):
        members = as_list(schema.get(union))
        if members:
            return as_object(members[0])
    return None


def _merge(members: JSON, root: JSONObject, depth: int) -> JSON:
    values = [_example(as_object(member), root, depth + 1) for member in as_list(members)]
    if not all(isinstance(value, Mapping) for value in values):
        return values[0]
    return {name: part for value in values for name, part in as_object(value).items()}


def _type_of(schema: JSONObject) -> str:
    kind = schema.get("type")
    names = [kind] if isinstance(kind, str) else [as_text(name) for name in as_list(kind)]
    for name in names:
        if name is not None and name.lower() != "null":  # Gemini writes types in upper case
            return name.lower()
    if names:
        return "null"
    return "object" if "properties" in schema else "string"


def _of_type(kind: str, schema: JSONObject, root: JSONObject, depth: int) -> JSON:
    if kind == "object":
        properties = as_object(schema.get("properties"))
        required = [name for name in map(as_text, as_list(schema.get("required"))) if name is not None]
        return {name: _example(as_object(properties.get(name)), root, depth + 1) for name in required}
    if kind == "array":
        count = as_int(schema.get("minItems")) or 0
        return [_example(as_object(schema.get("items")), root, depth + 1) for _ in range(count)]
    if kind in {"integer", "number"}:
        return _number(schema)
    return {"boolean": True, "null": None}.get(kind, _string(schema))


def _string(schema: JSONObject) -> str:
    text = _FORMATS.get(as_text(schema.get("format")) or "", "example")
    return text.ljust(as_int(schema.get("minLength")) or 0, "x")[: as_int(schema.get("maxLength"))]


def _number(schema: JSONObject) -> int:
    above = as_int(schema.get("exclusiveMinimum"))
    below = as_int(schema.get("exclusiveMaximum"))
    low = [as_int(schema.get("minimum")), None if above is None else above + 1]
    high = [as_int(schema.get("maximum")), None if below is None else below - 1]
    raised = max([1, *(bound for bound in low if bound is not None)])
    return min([raised, *(bound for bound in high if bound is not None)])


def _resolve(reference: str, root: JSONObject) -> JSONObject:
    node: JSON = root
    for step in reference.removeprefix("#").strip("/").split("/"):
        if step:
            node = as_object(node).get(step.replace("~1", "/").replace("~0", "~"))
    return as_object(node)
