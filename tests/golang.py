"""Go for tests: Debian's packages, stubs made by protoc, and programs built with them.

`python -m tests.golang` (`make deps-go`) installs the packages.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import debian
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


#: How long protoc or the compiler may take; the first build compiles gRPC.
BUILD_S = 300


def require_go() -> None:
    """Fail with what to install, if something is missing."""
    if missing := lacks():
        pytest.fail(f"Go clients can't be tested without Debian's packages {' '.join(missing)}: make deps-go", False)


@functools.cache
def lacks() -> list[str]:
    """The packages that are not installed."""
    return debian.lacks(PACKAGES)


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
    sys.exit(debian.install(PACKAGES) or None)
