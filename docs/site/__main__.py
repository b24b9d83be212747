"""`make docs`: build the site. A warning, such as for a link to a heading that is not there, ends it."""

from __future__ import annotations

import sys

from docs.site.build import build

if __name__ == "__main__":
    sys.exit(build(*sys.argv[1:]))
