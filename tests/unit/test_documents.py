"""The documents name files that exist, and promise commands that exist."""

from __future__ import annotations

import json
import re
import tomllib
from dataclasses import fields
from pathlib import Path

import click
import pytest
import yaml

from cli.main import main
from cli.supervisor import process_table
from gateway.settings import Settings
from tests import figures
from tests.pages import BY, LANGUAGES, NOT, ROOT, SHELL, all_pages, blocks

PAGES = [page for page in all_pages() if page != "CHANGELOG.md"]
#: A page, and the same in another language.
TRANSLATIONS = [("README.md", "README.zh-CN.md"), ("docs/start.md", "docs/start.zh.md")]


@pytest.mark.parametrize("document", PAGES)
def test_every_file_that_is_named_exists(document: str) -> None:
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]+\.\w+)`", (ROOT / document).read_text())
    assert named or document.startswith("docs/")
    # var/ is made by a running Headrace, build/ by make.
    assert [name for name in named if not name.startswith(("var/", "build/")) and not (ROOT / name).exists()] == []


@pytest.mark.parametrize("document", PAGES)
def test_every_variable_that_is_named_exists(document: str) -> None:
    named = re.findall(r"HEADRACE_([A-Z_]+[A-Z])\b", (ROOT / document).read_text())
    known = {field.name.upper() for field in fields(Settings)}
    others = {"FAULTS", "FUZZ_S", "CHAOS_SEED", "CHAOS_S", "KEY", "ADDRESS", "URL", "API_KEY"}
    assert set(named) <= known | others | {f"{name}_FILE" for name in known}


@pytest.mark.parametrize("document", PAGES)
def test_every_command_in_a_line_of_text_exists_with_its_options(document: str) -> None:
    for line in re.findall(r"`(?:[A-Z_]+=\S+ )*headrace (\w[^`\n]*)`", (ROOT / document).read_text()):
        words = line.split()
        command: click.Command = main
        while isinstance(command, click.Group) and words:
            found = command.get_command(click.Context(command), words[0])
            if not found:
                break
            words, command = words[1:], found
        assert command is not main, f"{document} names 'headrace {line}', which there is not"
        known = {option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)} | {
            "--help"
        }
        assert {word for word in re.findall(r"--[a-z][\w-]*", " ".join(words)) if word not in known} == set(), line


@pytest.mark.parametrize("document", PAGES)
def test_every_block_of_commands_is_run_or_says_why_not(document: str) -> None:
    for block in blocks(document):
        assert block.language in LANGUAGES, f"{block}: ```{block.language} is none of {sorted(LANGUAGES)}"
        if block.run_by:
            assert block.language in SHELL, block
            test = ROOT / block.run_by
            assert test.exists(), f"{block} is said to be run by {block.run_by}, which there is not"
            assert Path(document).name in test.read_text(), f"{block.run_by} does not name {document}"
        if block.not_run:
            assert len(block.not_run) > 20, f"{block}: why is it not run? '<!-- {BY}TEST -->' or '<!-- {NOT}REASON -->'"


@pytest.mark.parametrize("document", PAGES)
def test_every_example_can_be_read(document: str) -> None:
    readers = {"json": json.loads, "toml": tomllib.loads, "yaml": yaml.safe_load}
    for block in blocks(document):
        if block.language in readers:
            assert readers[block.language](block.text), block


@pytest.mark.parametrize(("page", "translation"), TRANSLATIONS)
def test_a_translation_has_the_same_sections_commands_links_and_figures(page: str, translation: str) -> None:
    def commands(name: str) -> list[str]:
        return [re.sub("#.*", "#", block.text) for block in blocks(name)]

    texts = [(ROOT / name).read_text() for name in (page, translation)]
    assert commands(page) == commands(translation)
    for pattern in (r"^#+ ", r"^- ", r"^\|", r"\d+\.\d\d", r"\d,\d{3}"):
        one, other = (re.findall(pattern, text, re.MULTILINE) for text in texts)
        assert one == other, pattern
    links = [sorted(set(re.findall(r"\]\(([^)]+)\)", text))) for text in texts]
    swap = {page: translation, "docs/start.md": "docs/start.zh.md"}
    others = {Path(page).name, Path(translation).name}
    assert [swap.get(x, x) for x in links[0] if x not in others] == [x for x in links[1] if x not in others]


def test_every_make_target_of_the_documents_exists() -> None:
    text = (ROOT / "README.md").read_text() + (ROOT / "CONTRIBUTING.md").read_text()
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:`|^)make ([\w-]+)", text, re.MULTILINE))
    assert {"run", "test", "check", "bench", "faults"} <= named <= targets


def test_every_page_that_the_product_names_exists() -> None:
    found = {}
    for folder in (*figures.PRODUCT, "docker", "proto"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".lua", ".toml", ".proto", ".yaml", ".conf") and "stubs" not in path.parts:
                found |= dict.fromkeys(re.findall(r"docs/[\w/.-]+\.\w+", path.read_text()), path)
    assert "docs/redis.md" in found
    assert {page: str(path) for page, path in found.items() if not (ROOT / page).exists()} == {}


def test_the_process_table_names_modules_that_exist() -> None:
    for command in process_table().values():
        assert command[:2] == ["python", "-m"]
        module = ROOT / command[2].replace(".", "/")
        assert module.with_suffix(".py").exists() or (module / "__main__.py").exists()
