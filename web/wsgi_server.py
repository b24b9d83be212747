"""The web process: `python -m web.wsgi_server`. gunicorn with gevent, one greenlet for each connection."""

from __future__ import annotations

import gc
import resource
import select
import uuid
from typing import Any

from gevent import monkey
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.ggevent import GeventWorker

from gateway.errors import BadRequest
from gateway.process.start import run
from gateway.settings import Settings
from gateway.store.codec import dumps
from web.http.bodies import BoundedBody, linger

#: Connections that one process may hold open.
CONNECTIONS = 20_000
#: After SIGTERM open streams end themselves within a second or two; what is left then is cut.
GRACEFUL_TIMEOUT_S = 5


class WebWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's worker with gevent, but for one function, and for how it reads bodies."""

    def patch(self) -> None:
        """Make what waits a matter of greenlets."""
        super().patch()
        # Here it only ever asks what is there now: redis-py does, of each connection before each use. gevent's goes
        # through the event loop for that, and takes as long as the command that follows.
        select.poll = monkey.get_original("select", "poll")  # type: ignore[misc]

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request. What the application has not read of its body is not wanted."""
        body = BoundedBody(req, sock)
        try:
            super().handle_request(listener_name, req, sock, addr)
        finally:
            if not body.finished:
                linger(sock)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer what is no request at all, and see to it that the answer arrives."""
        super().handle_error(req, client, addr, exc)
        linger(client)


def _write_error(sock: Any, status: int, reason: str, message: str) -> None:
    """What gunicorn says of what is no request, in the envelope and not as a page. It has no path to go by."""
    from web.http.dialect import Plain

    error = BadRequest(message or reason)
    error.http_status, error.reason = status, reason.lower().replace(" ", "_")
    body = dumps(Plain(uuid.uuid4().hex).error(error)[1])
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode())


util.write_error = _write_error


class WebLogger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's, whose lines are written as all others are."""

    def setup(self, cfg: Any) -> None:
        """Without handlers of its own."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True


class WebServer(BaseApplication):  # type: ignore[misc]
    """gunicorn without its command line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__()

    def load_config(self) -> None:
        """What gunicorn would read from its command line."""
        options = {
            "bind": f"{self.settings.http_host}:{self.settings.http_port}",
            "workers": self.settings.web_workers,
            "worker_class": WebWorker,
            "worker_connections": CONNECTIONS,
            "graceful_timeout": GRACEFUL_TIMEOUT_S,
            "keepalive": 75,
            "max_requests": 0,
            "control_socket_disable": True,
            "post_worker_init": _post_worker_init,
            "proc_name": "headrace-web",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Build the application, in each worker after it was forked and patched."""
        from gateway.context import Gateway
        from web.app import create_app

        gateway = Gateway.connect(self.settings)
        if self.settings.bootstrap_key:
            gateway.credentials.bootstrap(self.settings.bootstrap_key)
        gateway.hub.start()
        return create_app(gateway)


def _post_worker_init(worker: Any) -> None:
    gc.collect()
    gc.freeze()  # what is there now stays; no later collection needs to look at it
    worker.wsgi.extensions["headrace.alive"] = lambda: worker.alive


def main(settings: Settings) -> None:
    """Serve until SIGTERM."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    WebServer(settings).run()


if __name__ == "__main__":
    run(main)
