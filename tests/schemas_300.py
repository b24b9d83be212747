"""Schemas of many kinds, for tests of answers in a form."""

from __future__ import annotations

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
