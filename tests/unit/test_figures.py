"""The product stays in rooms of a fair size, without circles, and no two of its modules are easily mistaken.

`make figures` shows these figures, and those that may vary.
"""

from __future__ import annotations

import ast
from pathlib import Path

import grimp
import pytest

from tests import figures

Files = dict[Path, ast.Module]


@pytest.fixture(scope="module")
def files() -> Files:
    return figures.modules(*figures.PRODUCT)


def test_no_folder_holds_more_modules_than_can_be_looked_over(files: Files) -> None:
    assert len(files) > 200
    assert {str(folder): count for folder, count in figures.folders(files).items() if count > 16} == {}


def test_no_names_of_modules_are_one_letter_apart(files: Files) -> None:
    assert figures.lookalikes(files) == []


@pytest.mark.parametrize("types", [False, True], ids=["run time", "types too"])
def test_no_modules_import_each_other(files: Files, types: bool) -> None:
    graph = figures.imports(types=types)
    assert len(graph.modules) >= len(files)
    assert figures.circles(graph) == []


@pytest.mark.parametrize("types", [False, True], ids=["run time", "types too"])
def test_no_rooms_import_each_other(types: bool) -> None:
    assert figures.circles(figures.by_room(figures.imports(types=types))) == []


def test_what_is_one_letter_apart_is_found() -> None:
    paths = [Path(room, f"{name}.py") for room in "ab" for name in ("job", "jobs", "joy", "lobs", "call", "__init__")]
    assert figures.lookalikes(paths) == [("job", "jobs"), ("job", "joy"), ("jobs", "lobs")]


def test_a_circle_is_found_of_modules_and_of_rooms() -> None:
    graph = grimp.ImportGraph()
    for pair in ("web.a.x web.b.y", "web.b.y web.c.z", "web.c.z web.b.w", "web.c.z web.a.x", "web.d web.a.x"):
        importer, imported = pair.split()
        graph.add_import(importer=importer, imported=imported)
    assert figures.circles(graph) == [["web.a.x", "web.b.y", "web.c.z"]]
    assert figures.circles(figures.by_room(graph)) == [["web.a", "web.b", "web.c"]]


def test_rooms_may_be_tangled_where_modules_are_not() -> None:
    graph = grimp.ImportGraph()
    graph.add_import(importer="web.a.x", imported="web.b.y")
    graph.add_import(importer="web.b.z", imported="web.a.w")
    assert (figures.circles(graph), figures.circles(figures.by_room(graph))) == ([], [["web.a", "web.b"]])


CODE = ast.parse('''
class Shown:
    """Has one."""

    def told(self):
        """Has one."""
        def within():
            pass

    def untold(self):
        try:
            with suppress(OSError, Exception):
                pass
        except (ValueError, BaseException):
            pass

    def _own(self):
        with contextlib.suppress(KeyError):
            pass

class _Hidden:
    def untold(self):
        pass
''')


def test_functions_classes_and_broad_excepts_are_counted() -> None:
    assert sorted(figures.functions(CODE)) == [("_own", 3), ("told", 4), ("untold", 2), ("untold", 6), ("within", 2)]
    assert figures.classes(CODE) == [("Shown", 18), ("_Hidden", 3)]
    assert sorted(type(node).__name__ for node in figures.broad_excepts(CODE)) == ["Call", "ExceptHandler"]
    assert [node.name for node in figures.public(CODE.body)] == ["Shown", "told", "untold"]


def test_every_figure_is_shown() -> None:
    shown = dict(figures.table())
    assert "modules: " in shown["largest folder"]
    assert all(shown.values())
