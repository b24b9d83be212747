"""Operations and bodies of REST, from the OpenAPI document that the web face itself serves."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from docs.site.markdown import code, table
from gateway.context import Gateway
from gateway.settings import Settings
from web.app import create_app

Json = Mapping[str, Any]
METHODS = ("get", "post", "put", "patch", "delete")
#: What a schema says of its values beside the type.
BOUNDS = {"minimum": "≥", "maximum": "≤", "minLength": "length ≥", "maxLength": "length ≤", "maxItems": "items ≤"}
#: What the envelope of a schema is called, after its name.
ENVELOPE = "Envelope"
#: Headers of every operation; the page itself tells of them.
EVERYWHERE = {"X-Request-Id"}


def text() -> str:
    """A section for each operation, and one for each body."""
    found = document()
    return "\n".join([*_operations(found), *_bodies(found["components"]["schemas"])])


def document() -> Json:
    """The document. Nothing needs to run for it."""
    gateway = Gateway.connect(Settings())
    found: Json = create_app(gateway).test_client().get("/openapi.json").get_json()
    gateway.redis.close()
    return found


def _operations(found: Json) -> Iterator[str]:
    by_tag: dict[str, list[str]] = {}
    for path, item in found["paths"].items():
        for method in METHODS:
            if method in item:
                shared = [*item.get("parameters", ()), *item[method].get("parameters", ())]
                section = "\n".join(_operation(found, f"{method.upper()} {path}", item[method], shared))
                by_tag.setdefault(item[method]["tags"][0], []).append(section)
    for tag, sections in by_tag.items():
        yield f"## {tag.capitalize()}\n"
        yield from sections


def _operation(found: Json, name: str, operation: Json, parameters: list[Json]) -> Iterator[str]:
    yield f"### `{name}`\n"
    yield f"{operation['summary']}\n"
    if "description" in operation:
        yield f"{operation['description']}\n"
    named = [each for each in (_resolved(found, each) for each in parameters) if each["name"] not in EVERYWHERE]
    yield table(
        ("parameter", "in", "type", "meaning"),
        (
            (code(each["name"]), each["in"], _type(each.get("schema", {})), each.get("description", ""))
            for each in named
        ),
    )
    if body := _schema(operation.get("requestBody", {})):
        yield f"Body: {_type(body)}.\n"
    answers = [(status, _resolved(found, answer)) for status, answer in operation["responses"].items()]
    yield table(
        ("status", "meaning", "body"),
        (
            (status, answer.get("description", ""), _type(_schema(answer)) if _schema(answer) else "")
            for status, answer in answers
            if status < "400"
        ),
    )
    refused = [code(status) for status, _ in answers if status >= "400"]
    yield f"Errors: {', '.join(refused)}.\n" if refused else ""


def _bodies(schemas: Json) -> Iterator[str]:
    yield "## Bodies\n"
    for name, schema in sorted(schemas.items()):
        if not name.endswith(ENVELOPE):
            yield f"### {name}\n"
            yield f"{schema.get('description', '')}\n"
            required = schema.get("required", ())
            rows = (_field(field, about, field in required) for field, about in schema.get("properties", {}).items())
            yield table(("field", "type", "default", "meaning"), rows) or f"{_type(schema)}\n"


def _field(name: str, about: Json, required: bool) -> tuple[str, str, str, str]:
    default = "required" if required else "" if about.get("default") is None else code(_shown(about["default"]))
    bounds = [f"{word} {about[key]:,}" for key, word in BOUNDS.items() if key in about]
    words = [about.get("description", ""), f"({', '.join(bounds)})" if bounds else ""]
    return code(name), _type(about), default, " ".join(word for word in words if word)


def _type(schema: Json) -> str:
    """The type in words; of an envelope, what its `data` is."""
    if reference := schema.get("$ref"):
        name = reference.rpartition("/")[2].removesuffix(ENVELOPE)
        return f"[{name}](#{name.lower()})"
    if "enum" in schema:
        return " or ".join(code(_shown(value)) for value in schema["enum"])
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return " or ".join(dict.fromkeys(_type(each) for each in schema[key]))
    kinds = schema.get("type", "anything")
    names = [kinds] if isinstance(kinds, str) else kinds
    return " or ".join(f"array of {_type(schema.get('items', {}))}" if name == "array" else name for name in names)


def _schema(holder: Json) -> Json:
    """What a request or an answer has as JSON, else in the first form that it has."""
    content = holder.get("content", {})
    form: Json = content.get("application/json") or next(iter(content.values()), {})
    found: Json = form.get("schema", {})
    return found


def _resolved(found: Json, each: Json) -> Json:
    while "$ref" in each:
        at: Any = found
        for part in each["$ref"].removeprefix("#/").split("/"):
            at = at[part]
        each = at
    return each


def _shown(value: object) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
