"""The dashboard's files and sessions: who may, for how long, and that no other page can use them."""

from __future__ import annotations

import filecmp
import gzip
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.access import sessions
from gateway.access.api_keys import Credentials
from gateway.access.audit import AuditLog
from gateway.access.key_secrets import digest_of
from gateway.access.sessions import Sessions
from gateway.errors import Unauthenticated
from gateway.store import keys
from tests.stack import KEY, REPOSITORY, Stack, running
from web.http.auth import COOKIE, DASHBOARD_HEADER

STATIC, SOURCE = REPOSITORY / "web" / "pages" / "static", REPOSITORY / "web" / "ui"
OURS = {DASHBOARD_HEADER: "1"}
BROWSER = {"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {}}, session_ttl_s=3600) as stack:
        yield stack


@pytest.fixture
def page(stack: Stack) -> Iterator[httpx.Client]:
    """A browser's page of the dashboard, not signed in."""
    with stack.client("") as client:
        client.headers.update(OURS)
        yield client


def sign_in(page: httpx.Client, key: str = KEY) -> httpx.Response:
    return page.post("/dashboard/session", json={"key": key})


def reason(response: httpx.Response) -> str:
    return str(response.json()["data"]["reason"])


def test_a_browser_gets_the_page_and_a_program_json(stack: Stack) -> None:
    with stack.client("") as client:
        assert client.get("/").json()["data"]["name"] == "Headrace"
        page = client.get("/", headers=BROWSER)
        assert "<title>Headrace" in page.text
        assert "Accept" in page.headers["Vary"]
        for answer in (page, client.get("/dashboard/app.js"), client.get("/dashboard/app.css")):
            assert answer.status_code == 200
            policy = dict(part.split(" ", 1) for part in answer.headers["Content-Security-Policy"].split("; "))
            assert policy["default-src"] == "'none'"
            assert {policy[name] for name in ("script-src", "style-src", "connect-src")} == {"'self'"}
            assert answer.headers["X-Content-Type-Options"] == "nosniff"
        unchanged = client.get("/dashboard/app.js", headers={"If-None-Match": answer_tag(client)})
        assert unchanged.status_code == 304
        assert client.get("/dashboard/../app.py").status_code == 404


def answer_tag(client: httpx.Client) -> str:
    return client.get("/dashboard/app.js").headers["ETag"]


def test_who_signs_in_may_what_the_key_may_until_signing_out(stack: Stack, page: httpx.Client) -> None:
    assert page.get("/dashboard/session").json()["data"]["key"] is None
    said = sign_in(page)
    assert (said.status_code, said.json()["data"]["key"]["name"]) == (200, "bootstrap")
    assert KEY not in said.text
    cookie = said.headers["Set-Cookie"]
    assert {"HttpOnly", "SameSite=Strict", "Path=/", "Max-Age=3600"} <= set(cookie.split("; "))
    assert "Secure" not in cookie
    assert page.get("/nodes").status_code == 200
    assert page.get("/dashboard/session").json()["data"]["key"]["name"] == "bootstrap"
    token = page.cookies[COOKIE]
    assert 0 < stack.redis.ttl(keys.session(digest_of(token))) <= 3600
    assert page.delete("/dashboard/session").status_code == 200
    assert COOKIE not in page.cookies
    page.cookies.set(COOKIE, token)
    ended = page.get("/nodes")
    assert (ended.status_code, reason(ended)) == (401, "session_ended")
    assert page.delete("/dashboard/session").status_code == 200


def test_a_session_ends_with_its_key_and_with_its_secret(stack: Stack, page: httpx.Client) -> None:
    credentials = Credentials(stack.redis)
    record, secret = credentials.create("guest")
    assert sign_in(page, secret).status_code == 200
    assert page.get("/models").status_code == 200
    assert page.get("/nodes").status_code == 403, "it has no more rights than its key"
    _, second = credentials.rotate(record.id)
    assert reason(page.get("/models")) == "api_key_replaced"
    page.cookies.clear()
    assert sign_in(page, second).status_code == 200
    credentials.revoke(record.id)
    assert reason(page.get("/models")) == "api_key_revoked"


def test_the_cookie_alone_counts_for_nothing(stack: Stack, page: httpx.Client) -> None:
    """A page of another origin can have it sent, but not the header: the preflight allows no cookies."""
    sign_in(page)
    del page.headers[DASHBOARD_HEADER]
    assert reason(page.get("/nodes")) == "no_api_key"
    assert page.post("/keys", json={"name": "x"}).status_code == 401
    assert page.get("/dashboard/session").json()["data"]["key"] is None
    refused = [sign_in(page), page.delete("/dashboard/session")]
    assert [(one.status_code, reason(one)) for one in refused] == [(403, "permission_denied")] * 2
    asked = {"Origin": "https://other.test", "Access-Control-Request-Method": "GET"}
    preflight = page.options("/nodes", headers={**asked, "Access-Control-Request-Headers": DASHBOARD_HEADER})
    assert "Access-Control-Allow-Credentials" not in preflight.headers


@pytest.mark.parametrize("body", [{}, {"key": ""}, {"key": 5}, {"key": "x", "more": 1}, {"key": "x" * 1001}])
def test_a_wrong_form_is_refused(page: httpx.Client, body: dict[str, Any]) -> None:
    assert page.post("/dashboard/session", json=body).status_code == 422


def test_a_wrong_key_gets_no_session(page: httpx.Client) -> None:
    refused = sign_in(page, "hr-wrong")
    assert (refused.status_code, reason(refused)) == (401, "invalid_api_key")
    assert "Set-Cookie" not in refused.headers


def test_a_key_has_a_bounded_number_of_sessions(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sessions, "MAX_SESSIONS", 3)
    credentials = Credentials(stack.redis)
    record, secret = credentials.create("often")
    found = Sessions(stack.redis, credentials, AuditLog(stack.redis, "rest"), ttl_s=60)
    begun = [found.begin(secret).token for _ in range(5)]
    assert stack.redis.zcard(keys.sessions(record.id)) == 3
    ended = 0
    for token in begun:
        try:
            assert found.authenticate(token).id == record.id
        except Unauthenticated:
            ended += 1
    assert ended == 2


@pytest.mark.parametrize(("settings", "root"), [({"http_tls": "proxy"}, ""), ({"http_tls": "proxy"}, "/llm")])
def test_behind_tls_and_below_a_path_the_cookie_is_for_them_only(
    tmp_path: Path, settings: dict[str, Any], root: str
) -> None:
    with running(tmp_path, {"fake": {}}, root_path=root, **settings) as stack, stack.client("") as page:
        page.headers.update(OURS)
        cookie = set(sign_in(page).headers["Set-Cookie"].split("; "))
        assert {"Secure", f"Path={root}/"} <= cookie


def test_the_bundle_is_small_and_needs_no_network() -> None:
    texts = {path.name: path.read_text() for path in STATIC.iterdir()}
    assert {"index.html", "app.js", "app.css", "icon.svg", "licenses.txt"} == set(texts)
    assert sum(len(gzip.compress(text.encode())) for text in texts.values()) < 120_000
    assert "url(" not in texts["app.css"]
    assert "http" not in texts["index.html"]


@pytest.mark.slow
def test_the_bundle_is_what_its_source_makes(tmp_path: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        pytest.skip("needs Node.js with npm")
    source = tmp_path / "ui"
    shutil.copytree(SOURCE, source, ignore=shutil.ignore_patterns("node_modules"))
    environ = {**os.environ, "OUT_DIR": str(tmp_path / "static")}
    for command in ((npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"), (npm, "run", "build")):
        done = subprocess.run(
            command, cwd=source, env=environ, capture_output=True, text=True, timeout=280, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
    same, differing, missing = filecmp.cmpfiles(
        STATIC, tmp_path / "static", [path.name for path in STATIC.iterdir()], shallow=False
    )
    assert (differing, missing) == ([], []), "run `npm run build` in web/ui, and commit what it has made"
    assert len(same) == len(list((tmp_path / "static").iterdir()))


def test_the_lock_names_no_place_of_download() -> None:
    assert '"resolved"' not in (SOURCE / "package-lock.json").read_text()
