"""The documentation as a site: `make docs`. Sphinx reads Markdown by MyST; nothing of it is fetched when it is read.

Pages of `docs/reference` end in a line such as `<!-- generated: cli -->`, for which the product itself is asked.
"""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parents[1]))

from docs.site import cli, grpc, metrics, rest, settings

#: Makers of what is generated.
MAKERS = {
    **{"cli": cli.text, "grpc": grpc.text, "rest": rest.text},
    **{"metrics": metrics.text, "settings": settings.text},
}

project = "Headrace"
version = release = version_of("headrace")
extensions = ["myst_parser"]
#: Anchors of headings as GitHub makes them, for links such as `engines.md#the-kv-cache`.
myst_heading_anchors = 4
#: `nitpicky` and the -W of `make docs`: a link to a page, file or heading that is not there ends the build.
nitpicky = True
exclude_patterns = ["site"]
html_theme = "furo"
html_title = f"Headrace {version}"
html_copy_source = False
html_show_copyright = False
html_theme_options = {"footer_icons": []}


def fill_in(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Put the generated parts into a page."""
    source[0] = re.sub(r"^<!-- generated: (\w+) -->$", lambda found: MAKERS[found[1]](), source[0], flags=re.MULTILINE)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", fill_in)
