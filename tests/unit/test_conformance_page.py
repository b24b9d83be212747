"""docs/conformance.md has a row for each path, field, header, method and message, and each row a test that exists."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.context import Gateway
from gateway.settings import Settings
from web.app import create_app
from web.rpc.stubs import model_pb2 as pb

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "conformance.md").read_text()
#: The calls of the API document, and where their examples are.
CALLS = {
    "GET /models": "models",
    "GET /models/{model_id}": "model",
    "POST /models/{model_id}/completions": "completion",
    "POST /models/{model_id}/chat/completions": "chat",
    "POST /models/{model_id}/embeddings": "embeddings",
    "GET /models/local": "local",
    "POST /models/local/deploy": "deploy",
    "GET /models/local/deployments/{deployment_id}": "deployment",
    "DELETE /models/local/{model_id}": "unload",
}
#: Every answer's own schema; of flask-smorest, and nowhere used.
WRAPPERS = re.compile(r"\w+Envelope|PaginationMetadata")


def sections(level: str) -> dict[str, str]:
    """The text below each heading of a level, up to the next of the same level."""
    parts = re.split(rf"^{level} (.+)$", PAGE, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def rows(text: str) -> list[list[list[str]]]:
    """The words in backticks of each cell of each row."""
    lines = [line for line in text.splitlines() if line.startswith("| `")]
    return [[re.findall(r"`([^`]+)`", cell) for cell in line.strip("| ").split(" | ")] for line in lines]


def named(text: str) -> list[str]:
    """The words of the columns before the tests: `schema.field`, or the only column's."""
    return [".".join([*map("".join, cells[:-2]), word]) for cells in rows(text) for word in cells[-2]]


def fields(value: Any, at: str = "") -> Iterator[str]:
    """Every field of a JSON value, by its path."""
    if isinstance(value, dict):
        for name, inner in value.items():
            yield f"{at}{name}"
            yield from fields(inner, f"{at}{name}" + ("[]." if isinstance(inner, list) else "."))
    elif isinstance(value, list):
        for inner in value:
            yield from fields(inner, at)


@pytest.fixture(scope="module")
def openapi() -> dict[str, Any]:
    gateway = Gateway.connect(Settings.load({}))
    document: dict[str, Any] = create_app(gateway).test_client().get("/openapi.json").get_json()
    gateway.redis.close()
    return document


def operations(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for path, item in document["paths"].items():
        yield from ((f"{method.upper()} {path}", item[method]) for method in item.keys() - {"parameters"})


@pytest.mark.parametrize("call", CALLS)
def test_each_field_of_the_document_has_a_row(call: str) -> None:
    expected = set()
    for part in ("request", "answer"):
        path = ROOT / "tests" / "document" / f"{CALLS[call]}.{part}.json"
        expected |= {f"{part}.{name}" for name in fields(json.loads(path.read_text()))} if path.exists() else set()
    found = named(sections("###")[f"`{call}`"].split("\n## ")[0])
    assert sorted(found) == sorted(expected)


def test_each_path_has_a_row(openapi: dict[str, Any]) -> None:
    assert sorted(named(sections("##")["Paths"])) == sorted(name for name, _ in operations(openapi))


def test_each_field_of_the_schemas_has_a_row(openapi: dict[str, Any]) -> None:
    expected = {
        f"{name}.{field}"
        for name, schema in openapi["components"]["schemas"].items()
        if not WRAPPERS.fullmatch(name)
        for shape in [schema, *schema.get("anyOf", ())]
        for field in shape.get("properties", ())
    }
    assert sorted(named(sections("##")["Schemas of REST"])) == sorted(expected)


def test_each_header_and_parameter_has_a_row(openapi: dict[str, Any]) -> None:
    components = openapi["components"]
    expected = set(components["headers"]) | set(components["parameters"])
    for name, operation in operations(openapi):
        expected |= {f"{name}?{p['name']}" for p in operation["parameters"] if p.get("in") == "query"}
    assert sorted(named(sections("##")["Headers and query parameters"])) == sorted(expected)


def test_each_method_and_message_of_grpc_has_a_row() -> None:
    methods = {m.name for service in pb.DESCRIPTOR.services_by_name.values() for m in service.methods}
    messages = {f"{name}.{field.name}" for name, m in pb.DESCRIPTOR.message_types_by_name.items() for field in m.fields}
    assert sorted(named(sections("##")["gRPC methods"])) == sorted(methods)
    assert sorted(named(sections("##")["gRPC messages"])) == sorted(messages)


def test_each_row_names_tests_that_exist() -> None:
    tests = {
        f"{path.name}::{node.name}"
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }
    found = rows(PAGE)
    assert found
    assert [cells for cells in found if not cells[-1]] == []
    assert {test for cells in found for test in cells[-1]} <= tests
