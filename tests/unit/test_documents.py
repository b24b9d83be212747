"""The documents name files that exist, and promise commands that exist."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

import pytest

from cli.main import main
from cli.supervisor import process_table
from gateway.settings import Settings

ROOT = Path(__file__).parents[2]


PAGES = [
    "README.md",
    "ARCHITECTURE.md",
    "CONTRIBUTING.md",
    *sorted(str(p.relative_to(ROOT)) for p in (ROOT / "docs").rglob("*.md")),
]


@pytest.mark.parametrize("document", PAGES)
def test_every_file_that_is_named_exists(document: str) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.\w+)`", (ROOT / document).read_text())
    assert named or document.startswith("docs/")
    # var/ is made by a running Headrace.
    assert [name for name in named if not name.startswith("var/") and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", PAGES)
def test_every_variable_that_is_named_exists(document: str) -> None:
    named = re.findall(r"HEADRACE_([A-Z_]+[A-Z])\b", (ROOT / document).read_text())
    known = {field.name.upper() for field in fields(Settings)}
    others = {"FAULTS", "FUZZ_S", "CHAOS_SEED", "CHAOS_S", "KEY", "ADDRESS", "URL", "API_KEY"}
    assert set(named) <= known | others | {f"{name}_FILE" for name in known}


def test_every_command_of_the_readme_exists() -> None:
    commands = re.findall(r"headrace (\w[\w-]*)", (ROOT / "README.md").read_text())
    assert commands
    assert set(commands) <= set(main.commands)


def test_every_make_target_of_the_documents_exists() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([\w-]+)", text, re.MULTILINE))
    assert {"run", "test", "check", "bench", "faults"} <= named <= targets


def test_the_process_table_names_modules_that_exist() -> None:
    for command in process_table().values():
        assert command[:2] == ["python", "-m"]
        module = ROOT / command[2].replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()
