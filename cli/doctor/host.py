"""Checks of this machine: packages, disk, processes, ports, certificates."""

from __future__ import annotations

import datetime
import importlib.metadata
import resource
import shutil
import socket
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography import x509
from packaging.requirements import Requirement

from cli import leftovers
from cli.doctor.checks import Check, Finding, Installed, ok, problem, warning
from cli.supervisor import process_table
from cli.up import supervisor_of
from gateway.access.certificates import RENEW_DAYS

#: Free bytes of the data folder's disk below which it is a problem, and a warning.
DISK = (256 * 2**20, 2 * 2**30)
#: File descriptors that a web process should be allowed to have.
DESCRIPTORS = 20_000


def packages(_: Installed) -> Iterable[Finding]:
    """Versions of the required packages."""
    wrong = []
    known = [Requirement(text) for text in importlib.metadata.requires("headrace") or ()]
    requirements = [one for one in known if one.marker is None or one.marker.evaluate({"extra": ""})]
    for requirement in requirements:
        try:
            found = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            wrong.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(found, prereleases=True):
            wrong.append(f"{requirement.name} is {found}, not {requirement.specifier}")
    if wrong:
        yield problem("; ".join(wrong), "Install headrace again.")
    else:
        yield ok(f"{len(requirements)} as required")


def disk(installed: Installed) -> Iterable[Finding]:
    """Room for the append-only file, logs and downloads."""
    folder = installed.settings.data_dir
    there = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(there).free
    found = f"{free / 2**30:.1f} GiB are free for {folder}"
    if free < DISK[0]:
        yield problem(found, "Make room: Redis refuses writes when its disk is full.")
    elif free < DISK[1]:
        yield warning(found, "Make room before the disk is full.")
    else:
        yield ok(found)


def descriptors(_: Installed) -> Iterable[Finding]:
    """Each open stream takes one."""
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if 0 <= most < DESCRIPTORS:
        yield warning(f"at most {most} a process", f"Raise the limit of open files (ulimit -Hn) to {DESCRIPTORS}.")
    else:
        yield ok("as many as needed" if most < 0 else f"up to {most} a process")


def processes(installed: Installed) -> Iterable[Finding]:
    """Whether `headrace up` supervises the processes of the data folder."""
    folder = installed.settings.data_dir
    running = leftovers.running(folder)
    if pid := supervisor_of(folder):
        yield ok(f"'headrace up' is process {pid}; in this folder run {', '.join(running) or 'no others'}")
    elif left := _orphans(list(running)):
        remedy = "'headrace up' takes over, 'headrace down' ends them."
        yield warning(f"{', '.join(left)}: nobody looks after them", remedy)
    else:
        yield ok("no 'headrace up' runs in this folder")


def _orphans(running: Sequence[str]) -> list[str]:
    """Processes that only `headrace up` starts; and model workers without an agent."""
    has_agent = any(name.startswith("agent.") for name in running)
    return [name for name in running if name in process_table() or not has_agent]


def ports(installed: Installed) -> Iterable[Finding]:
    """Whether the faces listen, if they are switched on."""
    settings = installed.settings
    if not supervisor_of(settings.data_dir):
        yield ok("no 'headrace up' runs in this folder, so none has to be open")
        return
    addresses = {
        "HTTP": (settings.http_host, settings.http_port),
        "gRPC": (settings.grpc_host, settings.grpc_port),
        **({"Flower": (settings.flower_host, settings.flower_port)} if settings.flower else {}),
    }
    closed = [f"{name} on {host}:{port}" for name, (host, port) in addresses.items() if not _listens(host, port)]
    if closed:
        yield problem(f"nothing listens: {', '.join(closed)}", "See 'headrace logs web', 'rpc' or 'flower'.")
    else:
        yield ok(", ".join(f"{name} {host}:{port}" for name, (host, port) in addresses.items()))


def _listens(host: str, port: int) -> bool:
    try:
        with socket.create_connection((host or "127.0.0.1", port), timeout=2):
            return True
    except OSError:
        return False


def certificates(installed: Installed) -> Iterable[Finding]:
    """When the gRPC server's certificate expires."""
    settings = installed.settings
    path = Path(settings.tls_cert) if settings.tls_cert else settings.tls_dir / "server.pem"
    if settings.grpc_plaintext:
        yield ok("gRPC is without TLS")
        return
    if not path.exists() and not settings.tls_cert:
        yield ok("made at the first start")
        return
    ends = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
    days = (ends - datetime.datetime.now(datetime.UTC)).days
    remedy = "Renew it (HEADRACE_TLS_CERT)." if settings.tls_cert else "Restart, or run 'headrace cert'."
    if days < 0:
        yield problem(f"{path} has expired on {ends:%Y-%m-%d}", remedy)
    elif days < RENEW_DAYS:
        yield warning(f"{path} ends in {days} days", remedy)
    else:
        yield ok(f"{path.name} is good for {days} days")


CHECKS: tuple[Check, ...] = (packages, disk, descriptors, processes, ports, certificates)
