"""What the pages of the dashboard show, as server-sent events: answers of this API, each again when it has changed."""

from __future__ import annotations

import contextlib
import contextvars
import hashlib
import math
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus

from flask import Blueprint, Response, current_app, g, request
from werkzeug.test import EnvironBuilder

from gateway.backoff import Backoff
from gateway.errors import InvalidRequest
from gateway.store.codec import dumps
from web.client_errors import client_error
from web.http import sse
from web.http.auth import DASHBOARD_HEADER, authenticate
from web.http.dialect import Plain
from web.http.envelope import WITHIN, gateway
from web.http.paths import Wsgi

#: Answers that one stream may follow.
MOST = 8
#: An answer is looked at again after this time, or after so many times as long as the last look took, if that is
#: longer, and at most after the last of these: what is dear is looked at less often.
EVERY_S, REST, LATEST_S = 1.0, 20, 30.0
#: One that can't be had now: what it took was waiting, not work.
FAILED = Backoff(EVERY_S, 5.0)
#: When looking takes longer, as while Redis does not answer, what was found by then is said.
SILENT_S = 5.0
#: A path of this server, with a query.
_LOOK = re.compile(r"/(?:[!-.0-~][!-~]*)?")
#: Whose answers they are.
_CREDENTIALS = ("Authorization", "X-Api-Key", "Cookie", DASHBOARD_HEADER)

blueprint = Blueprint("watch", __name__, url_prefix="/dashboard")


@blueprint.route("/watch")
def watch() -> Response:
    """Follow what `GET` of each `look` answers: `/dashboard/watch?look=/queue&look=/jobs%3Fstatus%3Dfailed`.

    An event is an object: by look, the status and the body of its answer; first of all (in parts, if that takes long),
    then of those that have changed. Each time it is asked whether the key may see it; the stream ends once the key is
    not valid any more.

    Raises: InvalidRequest, Unauthenticated, QueueFull.
    """
    authenticate()
    paths = dict.fromkeys(request.args.getlist("look"))
    if not 0 < len(paths) <= MOST or not all(map(_LOOK.fullmatch, paths)):
        raise InvalidRequest(
            f"'look' is a path of this API with its query, percent-encoded, such as /queue; name 1 to {MOST} of them."
        )
    headers = {name: request.headers[name] for name in _CREDENTIALS if name in request.headers}
    looks = [Look(path, current_app.wsgi_app, {**headers, "X-Request-Id": g.request_id}) for path in paths]
    limit_s = gateway().settings.stream_limit_s
    return sse.response(events(looks, alive=current_app.extensions["headrace.alive"], limit_s=limit_s))


@dataclass
class Look:
    """One answer, and when it is due again."""

    path: str
    application: Wsgi
    headers: Mapping[str, str]
    due: float = 0.0
    status: int = 0
    _failures: int = 0
    _digest: bytes = b""

    def again(self) -> str:
        """The answer as JSON, if it has changed; else empty."""
        began = time.monotonic()
        self.status, body = contextvars.copy_context().run(self._answer)  # the log's ids are those of the stream
        ended = time.monotonic()
        self._failures = self._failures + 1 if self.status >= HTTPStatus.INTERNAL_SERVER_ERROR else 0
        rest_s = min(max(EVERY_S, REST * (ended - began)), LATEST_S)
        self.due = ended + (FAILED.pause_s(self._failures) if self._failures else rest_s)
        digest = hashlib.blake2b(body).digest()
        if digest == self._digest:
            return ""
        self._digest = digest
        return f'{{"status":{self.status},"body":{body.decode()}}}'

    def _answer(self) -> tuple[int, bytes]:
        try:
            asked = EnvironBuilder(self.path, headers=self.headers.items(), environ_overrides={WITHIN: True})
            with contextlib.closing(Response.from_app(self.application, asked.get_environ())) as response:
                if response.mimetype != "application/json":
                    raise InvalidRequest(f"{self.path} does not answer with JSON, so it can't be watched.")
                return response.status_code, response.get_data()
        except Exception as error:  # noqa: BLE001 - it is the answer of this one; the others go on
            told = client_error(error, f"the look at {self.path}")
            status, envelope = Plain(self.headers["X-Request-Id"]).error(told)
            return status, dumps(envelope).encode()


def events(looks: list[Look], *, alive: Callable[[], bool], limit_s: float) -> Iterator[bytes]:
    """The body of the stream. A comment a second keeps it alive, and shows when its client has left.

    `alive` returns False when this server stops; then, and after `limit_s` (0 = never), the client is asked to come
    again.
    """
    until = time.monotonic() + limit_s if limit_s else math.inf
    while True:
        for found in _changed(looks):
            answers = ",".join(f"{dumps(path)}:{text}" for path, text in found.items())
            yield f"data: {{{answers}}}\n\n".encode() if answers else sse.PING
            if any(look.status == HTTPStatus.UNAUTHORIZED for look in looks):
                return
            if not alive() or time.monotonic() > until:
                yield b"retry: 200\n\n"
                return
        time.sleep(EVERY_S)


def _changed(looks: list[Look]) -> Iterator[dict[str, str]]:
    """The answers that have changed, by their paths; in parts, if it takes long."""
    began, found = time.monotonic(), {}
    for look in looks:
        if look.due <= time.monotonic() and (text := look.again()):
            found[look.path] = text
        if time.monotonic() - began > SILENT_S:
            yield found
            began, found = time.monotonic(), {}
    yield found
