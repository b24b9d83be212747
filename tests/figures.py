"""`make figures`: how large and how tangled the product is, from its syntax trees and its imports.

`tests/unit/test_figures.py` keeps those that must hold. Knows nothing of style, which is ruff's.
"""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PRODUCT = ("cli", "gateway", "schemas", "tasks", "web", "workers")
BROAD = frozenset({"Exception", "BaseException"})
#: Lines of a class, of a file: what is longer is listed.
MAX_CLASS, MAX_FILE = 200, 300
#: Names that say nothing of what a module holds.
NAMELESS = frozenset({"__init__", "__main__"})

Function = ast.FunctionDef | ast.AsyncFunctionDef
Documented = Function | ast.ClassDef


def modules(*folders: str) -> dict[Path, ast.Module]:
    """Files below these folders with their syntax; without what protoc has made."""
    paths = (path.relative_to(ROOT) for folder in folders for path in sorted((ROOT / folder).rglob("*.py")))
    return {path: ast.parse((ROOT / path).read_text()) for path in paths if "stubs" not in path.parts}


def folders(paths: Iterable[Path]) -> Counter[Path]:
    """How many modules lie right in each folder."""
    return Counter(path.parent for path in paths if path.stem != "__init__")


def lookalikes(paths: Iterable[Path]) -> list[tuple[str, str]]:
    """Names of modules that differ by one letter, wherever they lie."""
    names = sorted({path.stem for path in paths} - NAMELESS)
    return [(one, other) for one, other in combinations(names, 2) if _one_letter_apart(one, other)]


def _one_letter_apart(one: str, other: str) -> bool:
    """Whether a letter that is added, left out or changed makes two different names equal."""
    short, long = sorted((one, other), key=len)
    if len(short) == len(long):
        return sum(a != b for a, b in zip(short, long, strict=True)) == 1
    return any(long[:i] + long[i + 1 :] == short for i in range(len(long)))


def imports(*, types: bool) -> grimp.ImportGraph:
    """Who imports whom, also within functions; `types`: and for the type checker only."""
    return grimp.build_graph(*PRODUCT, exclude_type_checking_imports=not types, cache_dir=None)


def circles(graph: grimp.ImportGraph) -> list[list[str]]:
    """The modules that import each other, directly or by others, each circle once."""
    found = {
        frozenset(graph.find_upstream_modules(name) & graph.find_downstream_modules(name)) | {name}
        for name in graph.modules
    }
    return sorted(sorted(circle) for circle in found if len(circle) > 1)


def by_room(graph: grimp.ImportGraph) -> grimp.ImportGraph:
    """The same graph of rooms: packages right in `gateway`, `web` and so on. A module beside them is one by itself."""
    rooms = grimp.ImportGraph()
    for name in graph.modules:
        for other in graph.find_modules_directly_imported_by(name):
            one, two = (".".join(module.split(".")[:2]) for module in (name, other))
            if one != two:
                rooms.add_import(importer=one, imported=two)
    return rooms


def functions(tree: ast.Module) -> list[tuple[str, int]]:
    """Each function, also within another, and how many lines it takes."""
    return [(node.name, num_lines(node)) for node in ast.walk(tree) if isinstance(node, Function)]


def classes(tree: ast.Module) -> list[tuple[str, int]]:
    """Each class, and how many lines it takes."""
    return [(node.name, num_lines(node)) for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]


def num_lines(node: ast.stmt) -> int:
    """From its first line, without decorators, to its last."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def broad_excepts(tree: ast.AST) -> list[ast.ExceptHandler | ast.Call]:
    """Where everything is caught: `except Exception`, `except:`, `suppress(Exception)` and their like."""
    return [
        node for node in ast.walk(tree) if isinstance(node, ast.ExceptHandler | ast.Call) and _catches_everything(node)
    ]


def _catches_everything(node: ast.ExceptHandler | ast.Call) -> bool:
    if isinstance(node, ast.ExceptHandler):
        return node.type is None or bool(names(node.type) & BROAD)
    suppresses = ast.unparse(node.func).split(".")[-1] == "suppress"
    return suppresses and any(names(argument) & BROAD for argument in node.args)


def names(node: ast.AST) -> set[str]:
    """The plain names in a piece of code."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def public(body: Iterable[ast.stmt]) -> Iterator[Documented]:
    """Functions and classes that others may use, and the methods of those classes."""
    for node in body:
        if isinstance(node, Documented) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from public(node.body)


def table() -> list[tuple[str, str]]:
    """Each figure: what it is, and how it stands."""
    files = modules(*PRODUCT)
    lengths = {path: len((ROOT / path).read_text().splitlines()) for path in files}
    folder, count = folders(files).most_common(1)[0]
    long_functions = sorted(((n, f"{path}: {name}") for path in files for name, n in functions(files[path])))
    long_classes = [f"{name} {n}" for path in files for name, n in classes(files[path]) if n > MAX_CLASS]
    long_files = [f"{path} {n}" for path, n in lengths.items() if n > MAX_FILE]
    documented = [bool(ast.get_docstring(node)) for tree in files.values() for node in public(tree.body)]
    total = sum(lengths.values())
    tested = sum(len((ROOT / path).read_text().splitlines()) for path in modules("tests"))
    run_time, all_imports = imports(types=False), imports(types=True)
    return [
        ("product", f"{len(files)} modules, {total} lines"),
        ("largest folder", f"{count} modules: {folder}"),
        ("names one letter apart", _listed(" ".join(pair) for pair in lookalikes(files))),
        ("circles between modules, at run time", _listed(map(" ".join, circles(run_time)))),
        ("circles between modules, for types too", _listed(map(" ".join, circles(all_imports)))),
        ("circles between rooms, at run time", _listed(map(" ".join, circles(by_room(run_time))))),
        ("circles between rooms, for types too", _listed(map(" ".join, circles(by_room(all_imports))))),
        ("a function's lines, 90% have at most", str(long_functions[int(0.9 * len(long_functions))][0])),
        ("the longest function", "{} lines: {}".format(*long_functions[-1])),
        (f"classes of more than {MAX_CLASS} lines", _listed(long_classes)),
        (f"files of more than {MAX_FILE} lines", _listed(long_files)),
        ("broad excepts per 1,000 lines", f"{1000 * sum(map(len, map(broad_excepts, files.values()))) / total:.1f}"),
        ("public functions and classes with a docstring", f"{100 * sum(documented) / len(documented):.1f}%"),
        ("test lines per product line", f"{tested / total:.2f}"),
    ]


def _listed(found: Iterable[str]) -> str:
    entries = list(found)
    return f"{len(entries)}: {', '.join(entries)}" if entries else "0"


if __name__ == "__main__":
    for what, how in table():
        print(f"{what:46} {how}")
