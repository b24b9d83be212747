"""One HTTP request of a machine that joins, read and answered on a connection of the listener.

`GET /ca.pem` is what anyone may have: whoever has a token can tell whether it is the right CA. `POST /join` gives a
machine its certificate.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from email.utils import formatdate
from typing import Any

import h11
import orjson
from marshmallow import ValidationError

from gateway.cluster.joining import Joining, as_json
from gateway.errors import BadRequest, BodyTooLarge, HeadraceError, NotFound
from schemas.cluster.joining import JoinRequest, JoinRequestSchema
from web.client_errors import client_error
from web.request_ids import request_id

log = logging.getLogger(__name__)

#: Largest request, in bytes, and how long it may take to come, in seconds.
MAX_BYTES, WITHIN_S = 32_768, 10.0
_CHUNK = 4_096


class Exchange:
    """Answers on one connection. `known_as` is the machine whose certificate it has shown; empty: none."""

    def __init__(self, joining: Joining, ca_pem: Callable[[], bytes], known_as: str = "") -> None:
        self._joining = joining
        self._ca_pem = ca_pem
        self._known_as = known_as
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_BYTES)
        self._id = request_id("")

    async def run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, first: bytes = b"") -> None:
        """Read a request that begins with `first`, and answer it; one a connection. Raises: OSError, TimeoutError."""
        async with asyncio.timeout(WITHIN_S):
            try:
                if first:
                    self._http.receive_data(first)
                method, path, body = await self._read(reader)
            except (h11.RemoteProtocolError, HeadraceError) as error:
                wrong = error if isinstance(error, HeadraceError) else BadRequest(f"This is no HTTP request: {error}.")
                await self._send(writer, wrong.http_status, self._error(wrong))
                return
        status, answer, kind = await asyncio.to_thread(self._answer, method, path, body)
        await self._send(writer, status, answer, kind)

    async def _read(self, reader: asyncio.StreamReader) -> tuple[str, str, bytes]:
        request: h11.Request | None = None
        body = b""
        while True:
            event = self._http.next_event()
            if event is h11.NEED_DATA:
                self._http.receive_data(await reader.read(_CHUNK))
            elif isinstance(event, h11.Request):
                request = event
            elif isinstance(event, h11.Data):
                body += event.data
                if len(body) > MAX_BYTES:
                    raise BodyTooLarge(f"The body has more than {MAX_BYTES} bytes, which is the limit.")
            elif isinstance(event, h11.EndOfMessage) and request is not None:
                return request.method.decode("latin-1"), request.target.decode("latin-1"), body
            else:
                raise BadRequest("The connection ended before the request did.")

    def _answer(self, method: str, path: str, body: bytes) -> tuple[int, bytes, str]:
        """Status, body and its type; in a thread, since it asks Redis."""
        try:
            if (method, path) == ("GET", "/ca.pem"):
                return 200, self._ca_pem(), "application/x-pem-file"
            if (method, path) != ("POST", "/join"):
                raise NotFound("Machines join here: GET /ca.pem, POST /join. The API has another address.")
            answer = self._joining.join(_parsed(body), known_as=self._known_as)
            log.info("node %s has joined", answer.node)
            return 200, orjson.dumps({"data": as_json(answer)}), "application/json"
        except Exception as error:  # noqa: BLE001 - the edge of this connection: its client is told
            found = client_error(error, f"{method} {path!r} (request {self._id})")
            log.info("a machine was not let in: %s", found.message)
            return found.http_status, self._error(found), "application/json"

    def _error(self, error: HeadraceError) -> bytes:
        data: dict[str, Any] = {"reason": error.reason, **({"errors": error.errors} if error.errors else {})}
        body = {"code": error.http_status, "message": error.message, "data": data, "request_id": self._id}
        return orjson.dumps(body)

    async def _send(
        self, writer: asyncio.StreamWriter, status: int, body: bytes, kind: str = "application/json"
    ) -> None:
        headers = [
            ("Date", formatdate(usegmt=True)),
            ("Content-Type", kind),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        events = (h11.Response(status_code=status, headers=headers), h11.Data(data=body), h11.EndOfMessage())
        if self._http.our_state is h11.ERROR or self._http.our_state is h11.MUST_CLOSE:
            return
        writer.write(b"".join(self._http.send(event) or b"" for event in events))
        async with asyncio.timeout(WITHIN_S):
            await writer.drain()


def _parsed(body: bytes) -> JoinRequest:
    """Raises: BadRequest, InvalidRequest."""
    try:
        found = orjson.loads(body)
        request: JoinRequest = JoinRequestSchema().load(found)
    except orjson.JSONDecodeError as error:
        raise BadRequest(f"The body is not valid JSON: {error}.", reason="invalid_json") from error
    except ValidationError as error:
        raise client_error(error, "") from error
    return request
