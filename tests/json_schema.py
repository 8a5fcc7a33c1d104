"""The part of JSON Schema that our schemas use; a word that is not known here is an error, not a pass."""

from collections.abc import Iterator
from typing import Any

KINDS: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "boolean": bool,
    "null": type(None),
    "number": (int, float),
    "integer": int,
}
TOLD = {"$schema", "$id", "$defs", "version", "title", "description"}


def faults(value: Any, schema: dict[str, Any], whole: dict[str, Any] | None = None, at: str = "") -> Iterator[str]:
    """What of a value is not as the schema says, a line each."""
    whole = whole or schema
    if "$ref" in schema:
        yield from faults(value, whole["$defs"][schema["$ref"].rpartition("/")[2]], whole, at)
        return
    known = {"type", "anyOf", "enum", "properties", "required", "additionalProperties", "items", "prefixItems"}
    unknown = schema.keys() - TOLD - known - {"minItems", "maxItems", "propertyNames"}
    assert not unknown, f"this validator does not know {unknown}"
    if "anyOf" in schema and all(any(faults(value, one, whole, at)) for one in schema["anyOf"]):
        yield f"{at}: {value!r:.80} is none of {len(schema['anyOf'])} kinds"
    kind = schema.get("type")
    if kind and (not isinstance(value, KINDS[kind]) or (isinstance(value, bool) and kind != "boolean")):
        yield f"{at}: {value!r:.80} is no {kind}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{at}: {value!r} is not one of {schema['enum']}"
    if kind == "object":
        own, further = schema.get("properties", {}), schema.get("additionalProperties", True)
        yield from (f"{at}.{name} is missing" for name in schema.get("required", ()) if name not in value)
        for name, part in value.items():
            yield from faults(name, schema.get("propertyNames", {}), whole, f"{at}: the name")
            if name in own or isinstance(further, dict):
                yield from faults(part, own.get(name, further), whole, f"{at}.{name}")
            elif not further:
                yield f"{at}.{name} is unknown"
    if kind == "array":
        if not schema.get("minItems", 0) <= len(value) <= schema.get("maxItems", len(value)):
            yield f"{at} has {len(value)} items"
        first = schema.get("prefixItems", [])
        for number, part in enumerate(value):
            one = first[number] if number < len(first) else schema.get("items", {})
            yield from faults(part, one, whole, f"{at}[{number}]")
