"""The unit file of `headrace service`: systemd itself reads it, and secrets are not in it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from cli.service.unit import NAME, Service, path, quoted
from gateway.errors import InvalidSetting
from gateway.settings import Settings

ODD = 'folder with "quotes", 100% odd $HOME \\ and more'


def service(folder: Path, user: str = "", **environ: str) -> Service:
    """As `headrace service install` makes it with these variables."""
    variables = {f"HEADRACE_{name}": value for name, value in environ.items()}
    config = {"HEADRACE_CONFIG": str(folder / "headrace.toml")}
    return Service.of(Settings.load({**config, **variables}), {**config, **variables}, user)


def lines(unit: str, name: str) -> list[str]:
    """The values of a key."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{name}=")]


def test_it_runs_this_installation_with_the_settings_of_now(tmp_path: Path) -> None:
    unit = service(tmp_path, DATA_DIR="relative", HTTP_PORT="9000").unit()
    assert [shlex.split(line) for line in lines(unit, "ExecStart")] == [[sys.executable, "-P", "-m", "cli.main", "up"]]
    assert lines(unit, "Environment") == [
        f'"HEADRACE_CONFIG={tmp_path}/headrace.toml"',
        f'"HEADRACE_DATA_DIR={Path.cwd()}/relative"',
        '"HEADRACE_HTTP_PORT=9000"',
    ]
    assert lines(unit, "User") == []
    assert lines(unit, "WantedBy") == ["default.target"]


def test_it_gives_running_requests_the_time_that_they_may_have(tmp_path: Path) -> None:
    unit = service(tmp_path, DATA_DIR="/d", SHUTDOWN_S="300").unit()
    assert lines(unit, "TimeoutStopSec") == ["330"]
    assert lines(unit, "KillMode") == ["mixed"]


def test_a_service_of_the_machine_has_a_user_and_the_folders_of_the_machine(tmp_path: Path) -> None:
    variables = {"HEADRACE_HTTP_PORT": "9000"}
    one = Service.of(Settings.load(variables), variables, "root")
    unit = one.unit()
    assert lines(unit, "User") == ["root"]
    assert lines(unit, "StateDirectory") == ["headrace"]
    assert '"HEADRACE_DATA_DIR=/var/lib/headrace"' in lines(unit, "Environment")
    assert one.environment_file == Path("/etc/headrace/headrace.env")
    own = service(tmp_path, "root", DATA_DIR=str(tmp_path)).unit()
    assert lines(own, "StateDirectory") == []
    assert f'"HEADRACE_DATA_DIR={tmp_path}"' in lines(own, "Environment")


@pytest.mark.parametrize(
    ("name", "value"), [("BOOTSTRAP_KEY", "hr-secret"), ("REDIS_URL", "redis://:secret@127.0.0.1:6379/0")]
)
def test_a_secret_belongs_into_the_file_beside_the_settings(tmp_path: Path, name: str, value: str) -> None:
    one = service(tmp_path, DATA_DIR="/d", **{name: value})
    with pytest.raises(InvalidSetting) as caught:
        one.unit()
    assert f"HEADRACE_{name} holds a secret" in caught.value.message
    assert str(tmp_path / "headrace.env") in caught.value.message
    (tmp_path / "headrace.env").write_text(f"HEADRACE_{name}={value}\n")
    unit = one.unit()
    assert value not in unit
    assert lines(unit, "EnvironmentFile") == [f"-{tmp_path}/headrace.env"]


def test_a_url_without_a_password_is_no_secret(tmp_path: Path) -> None:
    unit = service(tmp_path, DATA_DIR="/d", REDIS_URL="redis://127.0.0.1:6379/0").unit()
    assert '"HEADRACE_REDIS_URL=redis://127.0.0.1:6379/0"' in lines(unit, "Environment")


def test_what_no_unit_can_hold_is_refused() -> None:
    with pytest.raises(InvalidSetting, match="can't stand in a unit file"):
        quoted("two\nlines")


def test_the_files_lie_where_systemd_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", "/somewhere")
    assert path(machine=False) == Path("/somewhere/systemd/user/headrace.service")
    assert path(machine=True) == Path("/etc/systemd/system/headrace.service")


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd-analyze (Debian's package systemd) is missing")
@pytest.mark.parametrize("user", ["", "root"])
def test_systemd_finds_nothing_wrong_with_it(tmp_path: Path, user: str) -> None:
    one = service(tmp_path, user, DATA_DIR=str(tmp_path / ODD), MODELS_JSON='{"water": {"engine": "fake"}}')
    unit = tmp_path / NAME
    unit.write_text(one.unit())
    scope = "--system" if user else "--user"
    done = subprocess.run(
        ["systemd-analyze", scope, "--man=no", "--recursive-errors=no", "verify", str(unit)],
        capture_output=True, text=True, check=False, timeout=60,
        env={"PATH": "/usr/bin:/bin", "XDG_RUNTIME_DIR": str(tmp_path), "HOME": str(tmp_path)},
    )  # fmt: skip
    assert NAME not in done.stderr, done.stderr
    assert done.returncode == 0, done.stderr
