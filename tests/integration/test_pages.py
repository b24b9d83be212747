"""Every command of the documentation, run as a reader would (tests/readers.py): one shell a page, on one installation.

The page that begins with nothing is in test_start_page.py.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.homes import Home
from tests.pages import all_pages, blocks
from tests.readers import PAGE_S, follow, machine, pages_hub, reader
from tests.stack import eventually

pytestmark = pytest.mark.timeout(2 * PAGE_S)

START = "docs/start.md"
PAGES = [page for page in all_pages() if page != START and any(block.is_run_here for block in blocks(page))]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """An installation of two machines, and a third that is gone."""
    folders = [tmp_path_factory.mktemp(name) for name in ("hub", "p")]
    with pages_hub(folders[0]) as hub, reader(folders[1], hub) as home:
        said = home.command("up", "--detach", timeout_s=PAGE_S)
        assert said.returncode == 0, said.stdout
        with machine(home, "worker-02"), machine(home, "worker-03") as gone:
            gone.kill()
            gone.wait()
            eventually(lambda: "worker-03 gone" in " ".join(home.command("nodes").stdout.split()), "it is gone")
            yield home


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page(home: Home, page: str) -> None:
    assert follow(home, page)
