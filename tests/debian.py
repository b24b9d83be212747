"""Debian's packages for tests, installed by root."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence

#: How long all of the installation may take.
INSTALL_S = 240
#: A source that does not answer, or another program that holds the lock, must not hold it up.
PATIENCE = (
    "Acquire::http::Timeout=20",
    "Acquire::https::Timeout=20",
    "Acquire::Retries=2",
    "DPkg::Lock::Timeout=60",
)


def lacks(packages: Sequence[str]) -> list[str]:
    """Those that are not installed."""
    return [name for name in packages if not _installed(name)]


def install(packages: Sequence[str]) -> str:
    """Install what is missing, as root on Debian. Returns what went wrong; empty if nothing did."""
    missing = lacks(packages)
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
