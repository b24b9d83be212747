"""`python -m cli.probe NAME [--live]`: whether a process of this container is well, for health checks of containers.

Exit status 0, or 1 and one line that says why not. web, rpc and Flower are asked; of the keeper, the agent and the
provider worker Redis has a heartbeat. With `--live` they count as well while Redis can't be asked: a restart of theirs
would not help it.
"""

from __future__ import annotations

import ssl
import sys
import urllib.request
from collections.abc import Callable

from gateway.cluster.registry import Registry
from gateway.errors import HeadraceError, InvalidRequest
from gateway.process.start import run
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW, connect

#: How long an answer may take.
TIMEOUT_S = 5.0


def web(settings: Settings) -> str:
    """The problem of the web process; empty if there is none."""
    scheme = "https" if settings.http_tls == "on" else "http"
    return _get(f"{scheme}://{_own(settings.http_host)}:{settings.http_port}/health/live")


def flower(settings: Settings) -> str:
    """That of Flower."""
    return _get(f"http://{_own(settings.flower_host)}:{settings.flower_port}/healthcheck")


def rpc(settings: Settings) -> str:
    """That of the gRPC process. One that asks its clients for certificates is not called, only connected to."""
    from cli.probe_rpc import problem

    return problem(settings, _own(settings.grpc_host))


def keeper(settings: Settings) -> str:
    """That of the keeper."""
    return "" if Registry(connect(settings)).keeper() else "no keeper sends a heartbeat"


def agent(settings: Settings) -> str:
    """That of the agent of this node and device."""
    here = settings.node, settings.device
    there = any(device.address == here for device in Registry(connect(settings)).devices())
    return "" if there else f"the agent of {'.'.join(here)} sends no heartbeat"


def provider(settings: Settings) -> str:
    """That of the provider worker of this node."""
    there = any(worker.node == settings.node for worker in Registry(connect(settings)).providers())
    return "" if there else f"the provider worker of {settings.node} sends no heartbeat"


PROBES: dict[str, Callable[[Settings], str]] = {
    one.__name__: one for one in (web, rpc, keeper, provider, agent, flower)
}


def main(settings: Settings) -> int:
    """Ask once. Raises: InvalidRequest for a name that is none."""
    names = [name for name in sys.argv[1:] if name != "--live"]
    if len(names) != 1 or names[0] not in PROBES:
        raise InvalidRequest(f"Got {' '.join(names) or 'nothing'}; choose one of {', '.join(PROBES)}.")
    try:
        problem = PROBES[names[0]](settings)
    except NOT_NOW as error:
        problem = "" if "--live" in sys.argv else f"Redis can't be asked: {error}"
    except HeadraceError as error:
        problem = error.message
    if problem:
        print(f"{names[0]}: {problem}", file=sys.stderr)
    return 1 if problem else 0


def _own(host: str) -> str:
    """The address at which a process of this machine is reached that listens on `host`."""
    return {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)


def _get(url: str) -> str:
    # What is asked is whether it answers, not who it is.
    trusting = urllib.request.HTTPSHandler(context=ssl._create_unverified_context())
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trusting)
    try:
        with opener.open(url, timeout=TIMEOUT_S) as response:
            response.read()
    except OSError as error:
        return f"{url} does not answer: {error}"
    return ""


if __name__ == "__main__":
    run(main)
