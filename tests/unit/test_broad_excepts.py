"""Nothing is swallowed in silence: whoever catches everything raises it again, logs it, or hands it on."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.figures import PRODUCT, broad_excepts, modules, names


def silent(tree: ast.AST) -> Iterator[int]:
    """Lines where whatever is raised is lost."""
    for node in broad_excepts(tree):
        if isinstance(node, ast.ExceptHandler):
            body = ast.Module(node.body, [])
            raises = any(isinstance(part, ast.Raise) for part in ast.walk(body))
            if raises or names(body) & {"log", node.name}:
                continue
        yield node.lineno


def test_whoever_catches_everything_says_so() -> None:
    found = {str(path): list(silent(tree)) for path, tree in modules(*PRODUCT).items()}
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
