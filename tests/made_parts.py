"""Parts of pages that a program makes: what stands between `<!-- NAME: made by FILE -->` and `<!-- end -->`."""

from __future__ import annotations

import re
from pathlib import Path

END = "<!-- end -->"


def part(page: Path, name: str) -> str:
    """What stands there."""
    return _cut(page.read_text(), name)[1]


def put(page: Path, name: str, made: str) -> None:
    """Put something else there."""
    before, _, after = _cut(page.read_text(), name)
    page.write_text(before + made + after)


def _cut(text: str, name: str) -> tuple[str, str, str]:
    """Up to the part, the part, and what comes behind it."""
    found = re.search(rf"<!-- {name}: made by \S+ -->\n", text)
    assert found, f"The page has no mark of {name!r}."
    end = text.index(END, found.end())
    return text[: found.end()], text[found.end() : end], text[end:]
