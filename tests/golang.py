"""Go for tests: Debian's packages, stubs made by protoc, and programs built with them.

`python -m tests.golang` (`make deps-go`) installs the packages.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.stack import REPOSITORY

#: The compiler, protoc with its two plugins, and the sources of what the stubs import.
PACKAGES = (
    "golang-go",
    "protobuf-compiler",
    "protoc-gen-go",
    "protoc-gen-go-grpc",
    "golang-google-grpc-dev",
    "golang-google-protobuf-dev",
    "golang-github-golang-protobuf-1-5-dev",
    "golang-google-genproto-dev",
    "golang-golang-x-net-dev",
)
#: Where those packages put their sources.
SOURCES = "/usr/share/gocode"


#: How long all of the installation may take.
INSTALL_S = 240
#: A source that does not answer, or another program that holds the lock, must not hold it up.
PATIENCE = (
    "Acquire::http::Timeout=20",
    "Acquire::https::Timeout=20",
    "Acquire::Retries=2",
    "DPkg::Lock::Timeout=60",
)
#: How long protoc or the compiler may take; the first build compiles gRPC.
BUILD_S = 300


def require_go() -> None:
    """Fail with what to install, if something is missing."""
    if missing := lacks():
        pytest.fail(f"Go clients can't be tested without Debian's packages {' '.join(missing)}: make deps-go", False)


@functools.cache
def lacks() -> list[str]:
    """The packages that are not installed."""
    return [name for name in PACKAGES if not _installed(name)]


def install() -> str:
    """Install what is missing, as root on Debian. Returns what went wrong; empty if nothing did."""
    missing = lacks()
    if not missing:
        return ""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return f"Only root on Debian can install: apt-get install {' '.join(missing)}"
    deadline = time.monotonic() + INSTALL_S
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        try:
            status, said = _apt(command, deadline - time.monotonic())
        except subprocess.TimeoutExpired:
            return f"apt-get {command[0]} has not ended within the {INSTALL_S} s that installing may take."
        if status:
            return f"apt-get {command[0]} says: {said}"
    return ""


def _apt(command: list[str], timeout_s: float) -> tuple[int, str]:
    """Exit status and errors. Raises: subprocess.TimeoutExpired, when apt-get and its helpers have been ended."""
    options = [word for option in PATIENCE for word in ("-o", option)]
    with subprocess.Popen(
        ["apt-get", "-qq", *options, *command],
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            _, said = process.communicate(timeout=timeout_s)
        finally:
            if process.poll() is None:  # its downloaders hold the pipe, too
                os.killpg(process.pid, signal.SIGTERM)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(10)
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, said.strip()


def _installed(package: str) -> bool:
    if not shutil.which("dpkg-query"):
        return False
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=30).stdout == "installed"


class Workspace:
    """A GOPATH with the stubs, made as the document says."""

    def __init__(self, folder: Path) -> None:
        require_go()
        self.folder = folder
        source = folder / "src"
        source.mkdir(parents=True)
        shutil.copy(REPOSITORY / "proto" / "model.proto", source)
        self._run(["protoc", "--go_out=.", "--go-grpc_out=.", "model.proto"], source)

    def build(self, name: str, text: str) -> Path:
        """The program of a text."""
        path = self.folder / f"{name}.go"
        path.write_text(text)
        self._run(["go", "build", "-o", name, path.name], self.folder)
        return self.folder / name

    def _run(self, command: list[str], folder: Path) -> None:
        environ = {**os.environ, "GO111MODULE": "off", "GOPATH": f"{self.folder}:{SOURCES}", "GOFLAGS": ""}
        done = subprocess.run(
            command, check=False, cwd=folder, env=environ, capture_output=True, text=True, timeout=BUILD_S
        )
        assert done.returncode == 0, f"{' '.join(command)} says: {done.stderr}"


if __name__ == "__main__":
    sys.exit(install() or None)
