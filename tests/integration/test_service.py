"""`headrace up` under a service manager, and `headrace service` under a systemd of its own."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.main import main
from cli.service import systemd
from tests.homes import Home, new_home
from tests.stack import PATIENCE_S, REPOSITORY, eventually, processes_of

SYSTEMD = Path("/lib/systemd/systemd")
#: Runs a command with mounts and processes of its own, which end with it.
APART = ("unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
#: Runs a command beside a systemd of the user, which may not see that of the machine.
_BESIDE_SYSTEMD = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system "$XDG_RUNTIME_DIR"
chmod 700 "$XDG_RUNTIME_DIR"
/lib/systemd/systemd --user &
systemd=$!
trap 'kill $systemd; wait $systemd' EXIT
for try in $(seq 300); do systemctl --user is-system-running --quiet && break; sleep 0.2; done
"$@"
"""


def can_run_systemd() -> bool:
    """Whether this machine lets a test have a systemd of its own."""
    if os.geteuid() != 0 or not SYSTEMD.exists() or not shutil.which("unshare"):
        return False
    return subprocess.run([*APART, "true"], check=False, capture_output=True, timeout=60).returncode == 0


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    found = new_home(tmp_path)
    found.environ |= {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config"), "XDG_RUNTIME_DIR": "/run/own"}
    yield found
    found.command("down")


def test_the_service_manager_is_told_when_requests_are_taken_and_when_it_ends(home: Home, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(2 * PATIENCE_S)
        home.environ["NOTIFY_SOCKET"] = str(tmp_path / "notify")
        up = home.start("up")
        assert manager.recv(64) == b"READY=1"
        assert home.command("status").returncode == 0
        for process in processes_of(home.data):
            assert process.pid == up.pid or "NOTIFY_SOCKET" not in process.environ()
        up.terminate()
        assert manager.recv(64) == b"STOPPING=1"
        assert up.wait(PATIENCE_S) == 0


@pytest.mark.parametrize("command", ["install", "remove"])
def test_without_systemd_it_says_so_in_one_line(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(systemd, "_BOOTED", tmp_path / "none")
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path))
    said = CliRunner().invoke(main, ["service", command])
    assert said.exit_code == 1
    assert said.output.startswith("Error: No systemd runs here, as in a container. 'headrace up --detach'")
    assert said.output.count("\n") == 1


def test_the_unit_can_be_printed_for_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_DATA_DIR", str(tmp_path))
    said = CliRunner().invoke(main, ["service", "install", "--print"])
    assert said.exit_code == 0
    assert f'Environment="HEADRACE_DATA_DIR={tmp_path}"' in said.output
    unknown = CliRunner().invoke(main, ["service", "install", "--print", "--system", "--user", "nobody-like-this"])
    assert unknown.exit_code == 1
    assert "There is no user 'nobody-like-this'. Say who runs the service: --user NAME" in unknown.output


@pytest.mark.slow
@pytest.mark.skipif(
    not can_run_systemd(), reason="no systemd of its own: needs root, unshare and Debian's package systemd"
)
def test_systemd_starts_it_again_until_it_is_removed(home: Home, tmp_path: Path) -> None:
    """One shell for all: what follows systemd's end can't ask it."""
    script = tmp_path / "script"
    script.write_text(f"""
headrace="{sys.executable} -m cli.main"
$headrace service install && $headrace service install
first=$(systemctl --user show headrace --property MainPID --value)
kill -9 $first
for try in $(seq 300); do systemctl --user is-active --quiet headrace && break; sleep 0.2; done
$headrace status && systemctl --user show headrace --property NRestarts
$headrace service remove && $headrace service remove
""")
    command = [*APART, "bash", "-c", _BESIDE_SYSTEMD, "-", "bash", str(script)]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=home.environ, capture_output=True, text=True, timeout=280, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    unit = tmp_path / "config" / "systemd" / "user" / "headrace.service"
    steps = [
        f"wrote {unit}",
        "runs already with these settings",
        "up, process",
        "NRestarts=1",
        "ended headrace.service",
    ]
    assert [step for step in steps if step not in said] == [], said
    assert "no service is installed" in said
    assert not unit.exists()
    eventually(lambda: not processes_of(home.data), "nothing is left")
