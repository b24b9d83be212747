"""Schemas of many kinds, for tests of answers in a form."""

from __future__ import annotations

import random
from typing import Any

BY_HAND: list[Any] = [
    {
        "type": "object",
        "properties": {
            "a": {"type": "integer", "minimum": -5, "maximum": 300},
            "b": {"type": "string", "pattern": "^[a-z]{2,5}$"},
            "c": {"enum": ["x", "y", None, 3]},
            "d": {"type": "array", "items": {"type": "number", "exclusiveMinimum": 0}, "minItems": 1, "maxItems": 3},
        },
        "required": ["b", "d"],
        "additionalProperties": False,
    },
    {
        "type": "object",
        "properties": {"name": {"type": "string", "minLength": 3, "maxLength": 5}},
        "additionalProperties": {"type": "boolean"},
        "required": ["other"],
    },
    {
        "$defs": {
            "n": {
                "type": "object",
                "properties": {
                    "v": {"type": "string", "format": "date"},
                    "kids": {"type": "array", "items": {"$ref": "#/$defs/n"}},
                },
                "required": ["v"],
            }
        },
        "$ref": "#/$defs/n",
    },
    {
        "anyOf": [
            {"type": "string", "maxLength": 3},
            {"type": "object", "patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False},
        ]
    },
    {
        "oneOf": [
            {"type": "object", "properties": {"k": {"const": "a"}, "v": {"type": "integer"}}, "required": ["k", "v"]},
            {
                "type": "object",
                "properties": {"k": {"const": "b"}, "w": {"type": "string", "format": "email"}},
                "required": ["k"],
            },
        ]
    },
    {
        "allOf": [
            {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]},
            {"properties": {"b": {"type": "boolean"}, "a": {"minimum": 3}}, "required": ["b"]},
        ]
    },
    {
        "type": "object",
        "properties": {"t": {"enum": ["p", "q"]}, "z": {"type": "integer"}},
        "required": ["t"],
        "if": {"properties": {"t": {"const": "p"}}},
        "then": {"required": ["z"]},
        "else": {"properties": {"z": False}},
    },
    {"type": "array", "items": {"enum": ["r", "g", "b"]}, "uniqueItems": True, "minItems": 1},
    {
        "type": "array",
        "prefixItems": [{"type": "integer"}, {"type": "string", "format": "uuid"}],
        "items": {"type": "null"},
        "minItems": 1,
    },
    {
        "type": "object",
        "minProperties": 2,
        "maxProperties": 3,
        "properties": {
            "a": {"type": "integer"},
            "b": {"type": "integer"},
            "c": {"type": "integer"},
            "d": {"type": "integer"},
        },
    },
    {"type": "integer", "multipleOf": 7, "minimum": 100, "maximum": 1000},
    {"type": "number", "multipleOf": 0.25, "minimum": -3, "maximum": 4},
    {"type": "string", "not": {"enum": ["a", "b"]}, "maxLength": 3},
    {"type": "array", "contains": {"const": 3}, "items": {"type": "integer"}},
    {"type": "object", "propertyNames": {"pattern": "^[A-Z]+$"}, "additionalProperties": {"type": "integer"}},
    {"type": "object", "properties": {"a": {}, "b": {}}, "dependentRequired": {"a": ["b"]}},
    {"type": "object"},
    {},
    True,
    {"type": ["string", "null"], "format": "date-time"},
]

#: Schemas that can't be done, with the keyword and the place that the error names.
REFUSED: list[tuple[Any, str, str]] = [
    ({"type": "object", "properties": {"a": {"type": "number", "multipleOf": 0.01}}}, "multipleOf", "#/properties/a"),
    ({"type": "array", "items": {"type": "string"}, "uniqueItems": True}, "uniqueItems", "#"),
    ({"type": "string", "pattern": "(a)\\1"}, "pattern", "#"),
    ({"type": "string", "pattern": "("}, "pattern", "#"),
    ({"type": "string", "format": "regex"}, "format", "#"),
    ({"oneOf": [{"type": "string"}, {"minLength": 2}]}, "oneOf", "#"),
    ({"$ref": "#/$defs/none"}, "$ref", "#"),
    ({"$ref": "#"}, "$ref", "#"),
    ({"$ref": "https://example.com/schema"}, "$ref", "#"),
    ({"type": "text"}, "type", "#"),
    ({"type": "array", "items": {"minimum": "1"}}, "minimum", "#/items"),
    ({"not": {"contains": {}}}, "not", "#"),
    ({"type": "object", "minProperties": 3}, "minProperties", "#"),
    ({"type": "array", "contains": {}, "maxContains": 2}, "maxContains", "#"),
    ({"type": "string", "minLength": 5, "maxLength": 2}, "minLength", "#"),
    ({"$dynamicRef": "#a"}, "$dynamicRef", "#"),
    (False, "", "#"),
    ({"type": "object", "required": ["a"], "properties": {"a": False}}, "", "#"),
    ({"properties": {"a": 1}}, "", "#/properties/a"),
]


#: Schemas that are made to cost much.
HOSTILE: dict[str, Any] = {
    "deep": {"type": "array", "items": {}},
    "hugeenum": {"enum": [f"value {i}" for i in range(20000)]},
    "anyofs": {
        "allOf": [
            {"anyOf": [{"type": "object", "properties": {f"a{i}": {"const": j}}} for j in range(4)]} for i in range(12)
        ]
    },
    "count": {"type": "string", "maxLength": 10**9, "minLength": 90000},
    "items": {"type": "array", "items": {"type": "string", "maxLength": 5000}, "minItems": 50000, "maxItems": 10**9},
    "nest": {
        "type": "array",
        "items": {
            "type": "array",
            "items": {"type": "array", "items": {"type": "string", "maxLength": 9999}, "maxItems": 9999},
            "maxItems": 9999,
        },
        "maxItems": 9999,
    },
    "pat": {"type": "string", "pattern": "^(a{1,1000}){1,1000}$"},
    "pat3": {"type": "string", "pattern": "^(?=.*a.{20})(?=.*b.{20})(?=.*c.{20}).*$"},
    "pat4": {"type": "string", "pattern": "(a*)*(b*)*" * 50, "maxLength": 100},
    "pat5": {"type": "string", "pattern": ".*a.{14}$", "maxLength": 100},
    "refs": {
        "$defs": {f"d{i}": {"allOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(30)}
        | {"d30": {"type": "string"}},
        "$ref": "#/$defs/d0",
    },
    "refs2": {
        "$defs": {f"d{i}": {"anyOf": [{"$ref": f"#/$defs/d{i + 1}"}, {"$ref": f"#/$defs/d{i + 1}"}]} for i in range(30)}
        | {"d30": {"type": "string"}},
        "$ref": "#/$defs/d0",
    },
    "names": {
        "type": "object",
        "properties": {"x" * i: {"type": "integer"} for i in range(1, 400)},
        "additionalProperties": {"type": "integer"},
    },
    "pp": {
        "type": "object",
        "patternProperties": {f"^{c}.*{d}$": {"type": "integer"} for c in "abcde" for d in "xyzuv"},
    },
    "mult": {
        "type": "array",
        "items": [{"type": "integer", "multipleOf": k, "minimum": 0, "maximum": 10**12} for k in range(3000, 3020)],
    },
    "dep": {"type": "object", "dependentRequired": {f"k{i}": [f"k{i + 1}"] for i in range(20)}},
    "oneof": {"oneOf": [{"type": "object", "properties": {"k": {"const": i}}, "required": ["k"]} for i in range(300)]},
    "minp": {
        "type": "object",
        "properties": {f"p{i}": {"type": "string"} for i in range(60)},
        "minProperties": 30,
        "maxProperties": 31,
    },
}

#: Shapes that applications ask for.
REAL: list[Any] = [
    {
        "title": "Invoice",
        "type": "object",
        "properties": {
            "number": {"type": "string", "pattern": "^INV-[0-9]{4,8}$"},
            "issued": {"type": "string", "format": "date"},
            "customer": {"$ref": "#/$defs/party"},
            "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}, "minItems": 1, "maxItems": 50},
            "currency": {"enum": ["EUR", "USD", "CHF"]},
            "total": {"type": "number", "minimum": 0},
            "paid": {"type": "boolean", "default": False},
        },
        "required": ["number", "issued", "customer", "lines", "total"],
        "additionalProperties": False,
        "$defs": {
            "party": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "minLength": 1},
                    "email": {"type": "string", "format": "email"},
                },
                "required": ["name"],
            },
            "line": {
                "type": "object",
                "properties": {
                    "text": {"type": "string", "maxLength": 200},
                    "quantity": {"type": "integer", "exclusiveMinimum": 0, "maximum": 10000},
                    "price": {"type": "number", "minimum": 0},
                },
                "required": ["text", "quantity", "price"],
            },
        },
    },
    {
        "title": "Issue",
        "type": "object",
        "properties": {
            "id": {"type": "integer", "minimum": 1},
            "title": {"type": "string", "minLength": 1, "maxLength": 256},
            "state": {"enum": ["open", "closed"]},
            "labels": {"type": "array", "items": {"anyOf": [{"type": "string"}, {"$ref": "#/definitions/label"}]}},
            "assignee": {"anyOf": [{"$ref": "#/definitions/user"}, {"type": "null"}]},
            "created_at": {"type": "string", "format": "date-time"},
            "url": {"type": "string", "format": "uri"},
            "comments": {"type": "array", "items": {"$ref": "#/definitions/comment"}},
        },
        "required": ["id", "title", "state", "created_at"],
        "definitions": {
            "label": {
                "type": "object",
                "properties": {"name": {"type": "string"}, "color": {"pattern": "^[0-9a-f]{6}$", "type": "string"}},
            },
            "user": {"type": "object", "properties": {"login": {"type": "string"}}, "required": ["login"]},
            "comment": {
                "type": "object",
                "properties": {
                    "body": {"type": "string"},
                    "replies": {"type": "array", "items": {"$ref": "#/definitions/comment"}},
                },
                "required": ["body"],
            },
        },
    },
    {
        "title": "Deployment",
        "type": "object",
        "properties": {
            "apiVersion": {"const": "apps/v1"},
            "kind": {"const": "Deployment"},
            "metadata": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"},
                    "labels": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 63}},
                },
                "required": ["name"],
            },
            "spec": {
                "type": "object",
                "properties": {
                    "replicas": {"type": "integer", "minimum": 0, "maximum": 100},
                    "containers": {
                        "type": "array",
                        "minItems": 1,
                        "items": {
                            "type": "object",
                            "properties": {
                                "image": {"type": "string"},
                                "ports": {
                                    "type": "array",
                                    "items": {"type": "integer", "minimum": 1, "maximum": 65535},
                                },
                                "env": {
                                    "type": "object",
                                    "patternProperties": {"^[A-Z_]+$": {"type": "string"}},
                                    "additionalProperties": False,
                                },
                            },
                            "required": ["image"],
                        },
                    },
                },
                "required": ["containers"],
            },
        },
        "required": ["apiVersion", "kind", "metadata", "spec"],
    },
    {
        "oneOf": [
            {
                "type": "object",
                "properties": {"tool": {"const": "search"}, "query": {"type": "string"}},
                "required": ["tool", "query"],
            },
            {
                "type": "object",
                "properties": {"tool": {"const": "open"}, "url": {"type": "string", "format": "uri"}},
                "required": ["tool", "url"],
            },
            {
                "type": "object",
                "properties": {"tool": {"const": "done"}},
                "required": ["tool"],
                "additionalProperties": False,
            },
        ]
    },
]
_NAMES = ("id", "name", "größe", "a b", "x-y", "value", "items", "when", "ok", 'qu"ote', "back\\slash")
_PATTERNS = ("^[A-Z]{2}[0-9]{2,4}$", "^(?:foo|ba[rz])+$", "[0-9]", "^\\w+@\\w+$", "^$|^x", "^(?!no).{2,6}$")
_FORMATS = ("date", "time", "date-time", "email", "uuid", "ipv4", "ipv6", "hostname", "uri", "duration")


def generated(seed: int) -> Any:
    """A schema of that number: always the same."""
    source = random.Random(seed)
    schema = _some(source, 3)
    return {**schema, "$defs": {"again": {"type": "object", "properties": {"next": {"$ref": "#/$defs/again"}}}}}


def _some(source: random.Random, depth: int) -> dict[str, Any]:
    kinds = [_text, _number, _fixed, *([_object, _object, _array, _choice, _both] if depth else [])]
    found = source.choice(kinds)(source, depth - 1)
    if source.random() < 0.2:
        found = {**found, "title": "T", "description": "Says something", "x-own": 1}
    return found


def _text(source: random.Random, depth: int) -> dict[str, Any]:
    kind = source.randrange(4)
    if kind == 0:
        return {"type": "string", "pattern": source.choice(_PATTERNS)}
    if kind == 1:
        return {"type": "string", "format": source.choice(_FORMATS)}
    if kind == 2:
        least = source.randint(0, 5)
        return {"type": "string", "minLength": least, "maxLength": least + source.choice([0, 3, 300])}
    return {"type": source.choice(["string", ["string", "null"]])}


def _number(source: random.Random, depth: int) -> dict[str, Any]:
    found: dict[str, Any] = {"type": source.choice(["integer", "number"])}
    low = source.choice([-1000, -1, 0, 0.5, 7, 99])
    if source.random() < 0.5:
        found[source.choice(["minimum", "exclusiveMinimum"])] = low
    if source.random() < 0.5:
        found[source.choice(["maximum", "exclusiveMaximum"])] = low + source.choice([2, 10, 12345])
    if source.random() < 0.2:
        found["multipleOf"] = source.choice([2, 5, 10, 0.5] if found["type"] == "number" else [2, 3, 10])
    return found


def _fixed(source: random.Random, depth: int) -> dict[str, Any]:
    values = [1, -2.5, "a", "b\\n", "ü", None, True, False, "", [1, "x"], {"k": 1}]
    picked = source.sample(values, source.randint(1, 4))
    return source.choice([{"enum": picked}, {"const": picked[0]}, {"type": "boolean"}, {"type": "null"}])


def _object(source: random.Random, depth: int) -> dict[str, Any]:
    names = source.sample(_NAMES, source.randint(0, 4))
    found: dict[str, Any] = {"type": "object", "properties": {name: _some(source, depth) for name in names}}
    found["required"] = [name for name in names if source.random() < 0.5]
    if source.random() < 0.6:
        found["additionalProperties"] = source.choice([False, True, {"type": "integer"}])
    if source.random() < 0.15:
        found["patternProperties"] = {"^p_": {"type": "boolean"}}
    if names and source.random() < 0.15:
        found["maxProperties"] = len(names)
    if len(names) > 1 and source.random() < 0.2:
        found["dependentRequired"] = {names[0]: [names[1]]}
    if source.random() < 0.2:
        found["properties"]["next"] = {"$ref": "#/$defs/again"}
    return found


def _array(source: random.Random, depth: int) -> dict[str, Any]:
    if source.random() < 0.2:
        return {"type": "array", "items": {"enum": ["r", "g", "b"]}, "uniqueItems": True}
    found: dict[str, Any] = {"type": "array", "items": _some(source, depth)}
    if source.random() < 0.3:
        found["prefixItems"] = [_some(source, depth) for _ in range(source.randint(1, 2))]
    if source.random() < 0.5:
        found["minItems"] = source.randint(0, 3)
        found["maxItems"] = found["minItems"] + source.randint(0, 3)
    return found


def _choice(source: random.Random, depth: int) -> dict[str, Any]:
    if source.random() < 0.3:
        return {
            "oneOf": [
                {
                    "type": "object",
                    "properties": {"kind": {"const": k}, "v": _some(source, depth)},
                    "required": ["kind"],
                }
                for k in "ab"
            ]
        }
    return {"anyOf": [_some(source, depth) for _ in range(source.randint(2, 3))]}


def _both(source: random.Random, depth: int) -> dict[str, Any]:
    return {"allOf": [_object(source, depth), {"properties": {source.choice(_NAMES): _some(source, depth)}}]}


#: 300 schemas of very different kinds, most of which can be done.
SCHEMAS: list[Any] = [*BY_HAND, *REAL, *map(generated, range(300 - len(BY_HAND) - len(REAL)))]
