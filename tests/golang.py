"""Go for tests: Debian's packages, stubs made by protoc, and programs built with them."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
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


@functools.cache
def require_go() -> None:
    """Install what is missing, as root on Debian; else fail with what to install."""
    missing = [name for name in PACKAGES if not _installed(name)]
    if not missing:
        return
    advice = f"Go clients can't be tested without Debian's packages {' '.join(missing)}."
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.fail(f"{advice} Install them: apt-get install {' '.join(missing)}", pytrace=False)
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for command in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        done = subprocess.run(["apt-get", "-qq", *command], check=False, env=environ, capture_output=True, text=True)
        if done.returncode:
            pytest.fail(f"{advice} apt-get {command[0]} says: {done.stderr.strip()}", pytrace=False)


def _installed(package: str) -> bool:
    if not shutil.which("dpkg-query"):
        return False
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", package]
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout == "installed"


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
        done = subprocess.run(command, check=False, cwd=folder, env=environ, capture_output=True, text=True)
        assert done.returncode == 0, f"{' '.join(command)} says: {done.stderr}"
