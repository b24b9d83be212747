"""Nothing is swallowed in silence: whoever catches everything raises it again, logs it, or hands it on."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("cli", "gateway", "schemas", "tasks", "web", "workers")
BROAD = {"Exception", "BaseException"}
MODULES = {str(path.relative_to(ROOT)): path for room in ROOMS for path in (ROOT / room).rglob("*.py")}


def names(node: ast.AST | None) -> set[str]:
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)} if node else set()


def silent(tree: ast.AST) -> Iterator[int]:
    """Lines where whatever is raised is lost."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler) and (node.type is None or names(node.type) & BROAD):
            body = ast.Module(node.body, [])
            raises = any(isinstance(part, ast.Raise) for part in ast.walk(body))
            if not (raises or names(body) & {"log", node.name}):
                yield node.lineno
        suppresses = isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress")
        if suppresses and any(names(argument) & BROAD for argument in node.args):
            yield node.lineno


def test_whoever_catches_everything_says_so() -> None:
    found = {module: list(silent(ast.parse(path.read_text()))) for module, path in MODULES.items()}
    assert len(found) > 100
    assert {module: lines for module, lines in found.items() if lines} == {}


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("try: f()\nexcept Exception: pass", [2]),
        ("try: f()\nexcept: g()", [2]),
        ("try: f()\nexcept (OSError, BaseException) as e: g()", [2]),
        ("with contextlib.suppress(OSError, Exception): f()", [1]),
        ("try: f()\nexcept Exception as e: g(e)", []),
        ("try: f()\nexcept Exception: log.exception('x')", []),
        ("try: f()\nexcept BaseException:\n  g()\n  raise", []),
        ("try: f()\nexcept OSError: pass", []),
    ],
)
def test_what_is_silent_is_found(code: str, lines: list[int]) -> None:
    assert list(silent(ast.parse(code))) == lines
