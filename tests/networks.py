"""Two machines on one network: network namespaces, joined by a virtual cable. Without root both are this machine."""

from __future__ import annotations

import contextlib
import ctypes
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.stack import eventually

_CLONE_NEWNET = 0x40000000
_FIRST, _SECOND = "10.77.0.1", "10.77.0.2"


@dataclass(frozen=True)
class Network:
    """The network of a machine: its address there, and the command that runs another one in it."""

    address: str
    inside: tuple[str, ...] = ()
    #: Its namespace; empty: that of this process.
    path: str = ""

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """This thread, the threads and the processes that it starts are in the network."""
        if not self.path:
            yield
            return
        own = os.open(f"/proc/self/task/{threading.get_native_id()}/ns/net", os.O_RDONLY)
        try:
            _enter(self.path)
            yield
        finally:
            _set(own)
            os.close(own)


@contextlib.contextmanager
def two_networks() -> Iterator[tuple[Network, Network]]:
    """Networks of two machines that reach each other, and nothing else."""
    if os.geteuid() != 0:
        yield Network("127.0.0.1"), Network("127.0.0.1")
        return
    with contextlib.ExitStack() as stack:
        one, other = (stack.enter_context(_namespace()) for _ in range(2))
        names = f"hr{os.getpid()}a"[-15:], f"hr{os.getpid()}b"[-15:]
        _run("ip", "link", "add", names[0], "type", "veth", "peer", "name", names[1])
        for holder, name, address in ((one, names[0], _FIRST), (other, names[1], _SECOND)):
            _run("ip", "link", "set", name, "netns", str(holder.pid))
            for command in (f"addr add {address}/24 dev {name}", f"link set {name} up", "link set lo up"):
                _run(*_inside(holder), "ip", *command.split())
        yield _network(one, _FIRST), _network(other, _SECOND)


@contextlib.contextmanager
def _namespace() -> Iterator[subprocess.Popen[bytes]]:
    """A process that holds a new one."""
    holder = subprocess.Popen(["unshare", "-n", "sleep", "3600"])
    try:
        here = Path("/proc/self/ns/net").readlink()
        eventually(lambda: Path(f"/proc/{holder.pid}/ns/net").readlink() != here, "there is a namespace")
        yield holder
    finally:
        holder.kill()
        holder.wait()


def _network(holder: subprocess.Popen[bytes], address: str) -> Network:
    return Network(address, _inside(holder), f"/proc/{holder.pid}/ns/net")


def _inside(holder: subprocess.Popen[bytes]) -> tuple[str, ...]:
    return ("nsenter", "-t", str(holder.pid), "-n")


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


def _enter(path: str) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        _set(handle)
    finally:
        os.close(handle)


def _set(handle: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(handle, _CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "setns")
