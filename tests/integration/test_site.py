"""The documentation as a site: it builds, all its links lead somewhere, it needs no other host, and it is complete."""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import click
import pytest

from cli.main import main
from docs.site import rest
from docs.site.build import DOCS, build
from docs.site.settings import comment_by_name
from gateway.settings import Settings
from web.rpc.stubs import model_pb2

#: Attributes that make a browser fetch something by itself.
FETCHED = {("script", "src"), ("img", "src"), ("link", "href"), ("iframe", "src"), ("source", "src"), ("use", "href")}


class Page(HTMLParser):
    """What a page links to and fetches, and which anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = {""}
        self.links: list[str] = []
        self.fetched: list[str] = []
        self.text = path.read_text()
        self.feed(self.text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("id", "name") and value:
                self.anchors.add(value)
            elif (tag, name) in FETCHED and value:
                self.fetched.append(value)
            elif (tag, name) == ("a", "href") and value:
                self.links.append(value)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site") / "html"
    assert build(folder) == 0
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    return {path: Page(path) for path in site.rglob("*.html")}


def test_every_page_is_there(site: Path) -> None:
    sources = [path.relative_to(DOCS) for path in DOCS.rglob("*.md")]
    assert len(sources) > 20
    assert [str(path) for path in sources if not (site / path.with_suffix(".html")).exists()] == []


def test_every_link_leads_to_a_file_and_an_anchor_of_it(pages: dict[Path, Page]) -> None:
    broken = defaultdict(list)
    followed = 0
    for path, page in pages.items():
        for link in page.links + page.fetched:
            url = urlsplit(link)
            if url.scheme:
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            anchors = pages[target].anchors if target in pages else {""}
            followed += 1
            if not target.is_file() or unquote(url.fragment) not in anchors:
                broken[path.name].append(link)
    assert dict(broken) == {}
    assert followed > 1000


def test_nothing_is_fetched_from_elsewhere(site: Path, pages: dict[Path, Page]) -> None:
    fetched = {link for page in pages.values() for link in page.fetched}
    assert any(link.endswith(".css") or ".css?" in link for link in fetched)
    assert [link for link in fetched if re.match(r"\w+:|//", link) and not link.startswith("data:")] == []
    styles = [path.read_text() for path in site.rglob("*.css")]
    assert styles
    assert [
        found for style in styles for found in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//\S*", style)
    ] == []


def test_what_leads_nowhere_ends_the_build_and_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source = tmp_path / "docs"
    source.mkdir()
    index, contents = source / "index.md", "```{toctree}\nother\n```\n"
    (source / "other.md").write_text("# Other\n\n## A heading\n\n[One](index.md#one)\n")
    index.write_text(f"# One\n\n[fine](other.md#a-heading)\n\n{contents}")
    assert build(tmp_path / "html", source) == 0
    index.write_text(
        "# One\n\n[a page](no_page.md), [a heading](#no_heading), [a heading elsewhere](other.md#no_other)\n\n"
        f"![a picture](no_picture.svg)\n\n{contents}"
    )
    assert build(tmp_path / "html", source) != 0
    said = capfd.readouterr().err
    assert [name for name in ("no_page", "no_heading", "no_other", "no_picture") if name not in said] == []


def commands(group: click.Group, path: str) -> Iterator[str]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        yield f"{path} {name}"
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_the_reference_has_every_command_setting_path_and_method(site: Path) -> None:
    def missing(page: str, names: Iterator[str]) -> list[str]:
        text = re.sub(r"<[^>]+>", "", (site / "reference" / page).read_text())
        return [name for name in names if name not in text]

    assert missing("cli.html", commands(main, "headrace")) == []
    assert missing("settings.html", (f"HEADRACE_{field.name.upper()}" for field in dataclasses.fields(Settings))) == []
    assert missing("rest.html", iter(rest.document()["paths"])) == []
    services = model_pb2.DESCRIPTOR.services_by_name
    assert missing("grpc.html", (method.name for service in services.values() for method in service.methods)) == []
    assert missing("grpc.html", iter(model_pb2.DESCRIPTOR.message_types_by_name)) == []


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, comment in comment_by_name().items() if not comment] == []
