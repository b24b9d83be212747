"""The dashboard's files, which Vite makes from `web/ui`, and who has signed in. It asks the API as any client does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from flask import Blueprint, Response, request, send_from_directory

from gateway.access.key_record import KeyRecord
from gateway.errors import PermissionDenied
from gateway.views.api_keys import shown
from schemas.keys import SignInSchema
from web.http.auth import COOKIE, DASHBOARD_HEADER, session_token
from web.http.body_parser import StrictParser
from web.http.envelope import gateway, success
from web.pages.docs import VERSION

#: What `npm run build` writes.
FILES = Path(__file__).parent / "static"
#: All that the page loads comes from here, and nobody may show it in a frame.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'self'; form-action 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}

blueprint = Blueprint("dashboard", __name__, url_prefix="/dashboard")
_parser = StrictParser()


def page() -> Response:
    """The page, whose links begin at the root path."""
    text = (FILES / "index.html").read_text().replace('<base href="/"', f'<base href="{request.script_root}/"')
    return Response(text, mimetype="text/html", headers={**HEADERS, "Cache-Control": "no-cache"})


@blueprint.route("/<path:name>")
def file(name: str) -> Response:
    """A script, a style or a picture of it."""
    response = send_from_directory(FILES, name)
    response.headers.update(HEADERS)
    return response


@blueprint.route("/session")
def session() -> Response:
    """Who has signed in. Raises: Unauthenticated."""
    token = session_token()
    key = gateway().sessions.authenticate(token) if token else None
    return success(_shown(key))


@blueprint.route("/session", methods=["POST"])
def sign_in() -> Response:
    """Begin a session with an API key. Raises: Unauthenticated, PermissionDenied."""
    _require_dashboard()
    secret: str = _parser.parse(SignInSchema(), request, location="json")["key"]
    begun = gateway().sessions.begin(secret.strip())
    response = success(_shown(gateway().sessions.authenticate(begun.token)))
    response.set_cookie(COOKIE, begun.token, max_age=int(gateway().settings.session_ttl_s), **_cookie())
    return response


@blueprint.route("/session", methods=["DELETE"])
def sign_out() -> Response:
    """End the session. Once more does no harm. Raises: PermissionDenied."""
    _require_dashboard()
    gateway().sessions.end(session_token())
    response = success(_shown(None))
    response.delete_cookie(COOKIE, **_cookie())
    return response


def _require_dashboard() -> None:
    """Raises: PermissionDenied if a page of another origin may have sent the request."""
    if DASHBOARD_HEADER not in request.headers:
        raise PermissionDenied(
            f"Sessions are for the dashboard, which sends the header {DASHBOARD_HEADER}; send your key with each "
            "request instead: 'Authorization: Bearer YOUR_KEY'."
        )


def _cookie() -> dict[str, Any]:
    """How the cookie is kept: no script reads it, no other site sends it, and where there is TLS, only over that."""
    secure = request.is_secure or gateway().settings.http_tls == "proxy"
    return {"path": f"{request.script_root}/", "secure": secure, "httponly": True, "samesite": "Strict"}


def _shown(key: KeyRecord | None) -> dict[str, Any]:
    return {"version": VERSION, "key": shown(key) if key else None}
