"""The documentation page: Swagger UI from its package, without the network, and a text to begin with. No key needed.

The page's links are relative, so that it works below any root path.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

import flask_swagger_ui
from flask import Blueprint, Response, request, send_from_directory

#: The version of this product.
VERSION = version("headrace")
#: The page's scripts and styles.
FILES = Path(flask_swagger_ui.__file__).parent / "dist"

#: For a browser at `/docs/`.
PAGE = f"""<!doctype html>
<html lang="en">
<head>
  <meta charset="utf-8">
  <title>Headrace {VERSION}: the API</title>
  <link rel="stylesheet" href="swagger-ui.css">
  <link rel="icon" type="image/png" href="favicon-32x32.png">
</head>
<body>
  <div id="swagger-ui"></div>
  <script src="swagger-ui-bundle.js"></script>
  <script>
    SwaggerUIBundle({{url: "../openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null}});
  </script>
</body>
</html>
"""

#: The text above the list of operations: how to begin.
INTRODUCTION = """\
The model gateway that loses nothing: every request is a job that outlives the processes that work on it.

### Getting started

1. **A key.** `headrace up` prints the first one. An admin makes more: `headrace key create NAME`, or `POST /keys`.
   Below, *Authorize* takes it; it is sent as `Authorization: Bearer YOUR_KEY`.
2. **A model.** `GET /models` lists them, with their status. Where yours is not `active`, `POST /models/local/deploy`
   brings it onto a device.
3. **An answer.** With `URL` the address of this page without `/docs`:

       curl -N URL/models/MODEL/chat/completions \\
         -H "Authorization: Bearer YOUR_KEY" -H "Content-Type: application/json" \\
         -d '{"messages": [{"role": "user", "content": "Hello!"}], "stream": true}'

   Without `stream` the answer comes whole; with the header `Prefer: respond-async` a job to poll comes at once.

OpenAI's clients take `URL/v1` as their base URL. A stream that broke goes on at `GET /jobs/{job_id}/events` with
`Last-Event-ID`. Each error says what was wrong, what is allowed and what to do.
"""

blueprint = Blueprint("docs", __name__, url_prefix="/docs")


@blueprint.route("", strict_slashes=True)
def short() -> Response:
    """The page's links need the slash at the end of its address."""
    return Response(status=302, headers={"Location": f"{request.script_root}/docs/"})


@blueprint.route("/")
def page() -> Response:
    """The page."""
    return Response(PAGE, mimetype="text/html")


@blueprint.route("/<path:name>")
def file(name: str) -> Response:
    """A script or style of it."""
    return send_from_directory(FILES, name)
