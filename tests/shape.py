"""Whether an answer has every field of an example, of the same kind. More fields are allowed."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

#: What a text of an example looks like, and so must the answer's.
_FORMS = {
    "time": re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z"),
    "size": re.compile(r"\d+(\.\d+)?GB"),
    "duration": re.compile(r"\d+(\.\d+)?[hms]"),
    "id": re.compile(r"(cmpl|chatcmpl|deploy)-\w+"),
}


def lacks(example: Any, answer: Any) -> list[str]:
    """What the answer lacks, by its place; empty if nothing. Entries of a list that have an id are compared by it."""
    return list(_flaws(example, answer, ""))


def _flaws(example: Any, answer: Any, at: str) -> Iterator[str]:
    if isinstance(example, Mapping) and isinstance(answer, Mapping):
        for name, value in example.items():
            if name in answer:
                yield from _flaws(value, answer[name], f"{at}.{name}")
            else:
                yield f"{at}.{name} is missing"
    elif isinstance(example, list) and isinstance(answer, list) and len(answer) >= min(1, len(example)):
        for index, entry in enumerate(answer if example else ()):
            yield from _flaws(_like(entry, example), entry, f"{at}[{index}]")
    elif isinstance(example, list) or _kind(example) is not _kind(answer):
        yield f"{at}: {answer!r} is not of the kind of {example!r}"
    elif isinstance(example, str):
        for name, form in _FORMS.items():
            if form.fullmatch(example) and not form.fullmatch(answer):
                yield f"{at}: {answer!r} is not a {name} like {example!r}"


def _kind(value: Any) -> type:
    """A number may have a fraction, or not."""
    return float if type(value) is int else type(value)


def _like(entry: Any, examples: list[Any]) -> Any:
    """The example of the same id, else of the same status, which decides on the fields of a stage; else the first."""
    names = [name for name in ("id", "status") if isinstance(entry, Mapping) and name in entry]
    same = (like for name in names for like in examples if like.get(name) == entry[name])
    return next(same, examples[0])
