"""docs/errors.md has a row for each error that the code can answer with, and none besides."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

from gateway import errors
from gateway.deployments.reasons import REMEDIES
from gateway.errors import FAILURES, HeadraceError

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "errors.md").read_text()
PACKAGES = ("gateway", "web", "workers", "tasks")
#: (reason, HTTP status, gRPC code, class)
Row = tuple[str, str, str, str]
#: Made by the web server's router, not by a `raise`.
ROUTER = ("method_not_allowed", "405", "INVALID_ARGUMENT", "BadRequest")


def tree(kind: type[HeadraceError] = HeadraceError) -> list[type[HeadraceError]]:
    """A class and all below it, but for what the command line makes of a server's answer."""
    below = [child for child in kind.__subclasses__() if not child.__module__.startswith("cli.")]
    return [kind, *(inner for child in below for inner in tree(child))]


def row(kind: type[HeadraceError], reason: str) -> Row:
    return reason, str(kind.http_status), kind.grpc_code, kind.__name__


def calls() -> Iterator[ast.Call]:
    """All calls in the program."""
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            yield from (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def named(call: ast.Call) -> str:
    """The last part of what is called."""
    found = call.func
    return found.id if isinstance(found, ast.Name) else found.attr if isinstance(found, ast.Attribute) else ""


def words(node: ast.expr) -> list[str]:
    """The reasons that an expression can be; `*` stands for what it fills in."""
    if isinstance(node, ast.JoinedStr):
        return ["".join(str(part.value) if isinstance(part, ast.Constant) else "*" for part in node.values)]
    if isinstance(node, ast.IfExp):
        return words(node.body) + words(node.orelse)
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def raised() -> set[Row]:
    """The reasons that are given where an error is made."""
    kinds = {kind.__name__: kind for kind in tree()}
    return {
        row(kinds[named(call)], reason)
        for call in calls()
        if named(call) in kinds
        for keyword in call.keywords
        if keyword.arg == "reason"
        for reason in words(keyword.value)
    }


def of_classes() -> set[Row]:
    """The reason of each class, where it is not always given."""
    return {
        row(kind, kind.reason)
        for kind in tree()
        if inspect.signature(kind).parameters["reason"].default is not inspect.Parameter.empty
    }


def table(title: str) -> list[list[str]]:
    """The cells of the table below a heading."""
    section = PAGE.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [[cells[0].strip("`"), *cells[1:]] for cells in rows]


def test_the_page_has_every_error() -> None:
    code = {ROUTER, *of_classes(), *raised(), *(row(kind, reason) for reason, kind in FAILURES.items())}
    page: list[Row] = [(cells[0], cells[1], cells[2], cells[3]) for cells in table("All reasons")]
    assert len(page) == len(set(page))
    patterns = [entry for entry in code if "*" in entry[0]]
    fitting = {
        pattern: {
            entry
            for entry in page
            if re.fullmatch(pattern[0].replace("*", r"\w+"), entry[0]) and entry[1:] == pattern[1:]
        }
        for pattern in patterns
    }
    assert [pattern for pattern, entries in fitting.items() if not entries] == []
    filled_in = {entry for entries in fitting.values() for entry in entries}
    assert set(page) == code - set(patterns) | filled_in
    assert all(cells[4].endswith(".") for cells in table("All reasons"))


def test_every_reason_of_a_failed_job_has_a_class() -> None:
    """Else its client would get a 500 that no page tells of."""
    given = {
        node.value
        for call in calls()
        if named(call) in ("fail", "_fail")
        for node in [*call.args, *(keyword.value for keyword in call.keywords if keyword.arg == "reason")]
        if isinstance(node, ast.Constant) and re.fullmatch(r"[a-z_]+", str(node.value))
    }
    assert given
    assert given <= set(FAILURES)


def test_the_page_has_every_class_of_the_drawing() -> None:
    """And the drawing at the top of the module has every class."""
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn | {"HeadraceError"} == {kind.__name__ for kind in tree()}


def test_the_page_has_every_reason_of_a_failed_deployment() -> None:
    page = {cells[0]: cells[1] for cells in table("Why a deployment fails")}
    assert page == {str(reason): remedy for reason, remedy in REMEDIES.items()}
