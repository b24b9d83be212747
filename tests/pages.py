"""What the documentation has in fences: commands for a reader's terminal, and examples in other languages.

A block of commands is run by `tests/integration/test_pages.py`, unless a comment before it says who else runs it, or
why nobody can: `<!-- run by: tests/... -->`, `<!-- not run: ... -->`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: Languages of commands, which `bash` runs.
SHELL = frozenset({"sh"})
LANGUAGES = SHELL | {"text", "json", "toml", "yaml", "python", "go", "js", "{toctree}"}
BY, NOT = "run by: ", "not run: "

_BLOCK = re.compile(
    r"(?:^[ ]*<!--\s*(?P<comment>[^>]*?)\s*-->\n+)?"
    r"^(?P<indent>[ ]*)```(?P<language>[^\n`]*)\n(?P<text>.*?)^(?P=indent)```$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Block:
    """One fence of a page."""

    page: str
    line: int
    language: str
    text: str
    #: The test that runs it instead, and why none can.
    run_by: str
    not_run: str

    @property
    def is_run_here(self) -> bool:
        """Whether `test_pages.py` runs it."""
        return self.language in SHELL and not self.run_by and not self.not_run

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def all_pages() -> list[str]:
    """Every page, by its path in the repository."""
    tops = sorted(path.name for path in ROOT.glob("*.md"))
    return tops + sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))


def blocks(page: str) -> list[Block]:
    """The fences of a page."""
    text = (ROOT / page).read_text()
    return [
        Block(
            page=page,
            line=text.count("\n", 0, found.start("language")) + 1,
            language=found["language"],
            text=re.sub(f"^{found['indent']}", "", found["text"], flags=re.MULTILINE),
            run_by=_after(BY, found["comment"]),
            not_run=_after(NOT, found["comment"]),
        )
        for found in _BLOCK.finditer(text)
    ]


def _after(beginning: str, comment: str | None) -> str:
    text = " ".join((comment or "").split())
    return text.removeprefix(beginning) if text.startswith(beginning) else ""
