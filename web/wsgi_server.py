"""The web process: `python -m web.wsgi_server`. gunicorn with gevent, one greenlet for each connection."""

from __future__ import annotations

import logging
import resource
import select
import ssl
import uuid
from typing import Any

from gevent import monkey
from gunicorn import util
from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger as GunicornLogger
from gunicorn.workers.ggevent import GeventWorker

from gateway.access import plaintext
from gateway.access.certificates import server_tls
from gateway.access.key_secrets import require_strong
from gateway.errors import BadRequest
from gateway.process.start import collect_less, run
from gateway.settings import Settings
from gateway.store.codec import dumps
from gateway.tracing.start import require, tracer
from web.http.bodies import BoundedBody, HeadWithBody, linger
from web.tls import Secured

log = logging.getLogger(__name__)

#: Connections that one process may hold open.
CONNECTIONS = 20_000
#: After SIGTERM open streams end by themselves within a second or two; after this time the rest is closed.
GRACEFUL_TIMEOUT_S = 5


class WebWorker(GeventWorker):  # type: ignore[misc]
    """gunicorn's gevent worker, with another `select.poll` and another way to read bodies."""

    def patch(self) -> None:
        """Patch blocking functions for greenlets."""
        super().patch()
        # It is only used without waiting: redis-py polls each connection before each use. gevent's version goes
        # through the event loop for that, which takes as long as the command that follows.
        select.poll = monkey.get_original("select", "poll")  # type: ignore[misc]

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection."""
        if self.app.tls is not None:
            try:
                client = self.app.tls.accept(client)
            except BadRequest as error:
                _write_error(client, error.http_status, "Bad Request", error.message)
                linger(client)
                util.close(client)
                return
            except OSError:  # the client has left, or does not trust us
                util.close(client)
                return
        super().handle(listener, client, addr)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> None:
        """Answer one request. The rest of its body that the application has not read is dropped."""
        if isinstance(sock, ssl.SSLSocket):
            req.scheme = "https"
        body, connection = BoundedBody(req, sock), HeadWithBody(sock)
        try:
            super().handle_request(listener_name, req, connection, addr)
        finally:
            connection.flush()
            if not body.finished:
                linger(sock)

    def handle_error(self, req: Any, client: Any, addr: Any, exc: Any) -> None:
        """Answer an invalid request, and make sure that the answer arrives."""
        super().handle_error(req, client, addr, exc)
        linger(client)


def _write_error(sock: Any, status: int, reason: str, message: str) -> None:
    """Write gunicorn's error for an invalid request in the envelope, not as a page. It has no path to set a dialect."""
    from web.http.dialect import Plain

    error = BadRequest(message or reason)
    error.http_status, error.reason = status, reason.lower().replace(" ", "_")
    body = dumps(Plain(uuid.uuid4().hex).error(error)[1])
    head = f"HTTP/1.1 {status} {reason}\r\nConnection: close\r\nContent-Type: application/json\r\n"
    util.write_nonblock(sock, f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}".encode())


util.write_error = _write_error


class WebLogger(GunicornLogger):  # type: ignore[misc]
    """gunicorn's logger, with the format of all other log lines."""

    def setup(self, cfg: Any) -> None:
        """Use no handlers of its own."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = True


class WebServer(BaseApplication):  # type: ignore[misc]
    """gunicorn without its command line."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.tls: Secured | None = None
        super().__init__()

    def load_config(self) -> None:
        """Set what gunicorn would read from its command line."""
        options = {
            "bind": f"{self.settings.http_host}:{self.settings.http_port}",
            "workers": self.settings.web_workers,
            "worker_class": WebWorker,
            "worker_connections": CONNECTIONS,
            "graceful_timeout": GRACEFUL_TIMEOUT_S,
            "keepalive": 75,
            "sendfile": False,
            "max_requests": 0,
            "logger_class": WebLogger,
            "control_socket_disable": True,
            # Else a header of a client that comes through a proxy of this machine could name another path.
            "forwarder_headers": "",
            "post_worker_init": _post_worker_init,
            "proc_name": "headrace-web",
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Build the application, in each worker, after the fork and the patches.

        What imports redis, which keeps a class of `ssl` that is to be patched, is imported here.
        """
        from gateway.access.bootstrap import bootstrap_given
        from gateway.context import Gateway
        from web.app import create_app

        if self.settings.http_tls == "on":
            self.tls = Secured(self.settings)
        gateway = Gateway.connect(self.settings, joined=True)
        bootstrap_given(gateway.credentials, self.settings)
        gateway.hub.start()
        return create_app(gateway, tracer(self.settings, "web"))


def _post_worker_init(worker: Any) -> None:
    collect_less()
    worker.wsgi.extensions["headrace.alive"] = lambda: worker.alive


def main(settings: Settings) -> None:
    """Serve until SIGTERM. Raises: InvalidSetting."""
    require_strong(settings.bootstrap_key)
    require(settings)
    if settings.http_tls == "on":
        server_tls(settings)  # what is wrong with it is told once, not by each worker
    elif text := plaintext.warning(settings):
        log.warning(text)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    WebServer(settings).run()


if __name__ == "__main__":
    run(main)
