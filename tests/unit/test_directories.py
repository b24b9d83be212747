"""Where data and settings lie: of a checkout, and of what is installed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gateway import directories
from tests.stack import REPOSITORY


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As if this code were no checkout, in a current folder of somebody else's."""
    monkeypatch.setattr(directories, "_ROOT", tmp_path / "site-packages")
    (tmp_path / "cwd" / "var").mkdir(parents=True)
    (tmp_path / "cwd" / "headrace.toml").touch()
    monkeypatch.chdir(tmp_path / "cwd")


def test_a_checkout_has_all_in_itself_wherever_it_is_run_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert directories.shipped() == REPOSITORY
    assert directories.default_data_dir() == REPOSITORY / "var"
    assert directories.default_config() == REPOSITORY / "headrace.toml"


@pytest.mark.usefixtures("installed")
def test_what_is_installed_has_data_and_settings_where_the_platform_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert directories.default_data_dir() == tmp_path / "data" / "headrace"
    assert directories.default_config() == tmp_path / "config" / "headrace" / "headrace.toml"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become a user who is not known")
def test_who_has_no_home_folder_is_told_to_name_one() -> None:
    program = (
        "import os; from pathlib import Path; from gateway import errors, directories; os.setuid(54321)\n"
        "directories._ROOT = Path('/nowhere'); print(directories.default_config())\n"
        "try: print(directories.default_data_dir())\nexcept errors.InvalidSetting as error: print(error.message)"
    )
    environ = {name: value for name, value in os.environ.items() if name != "HOME" and not name.startswith("XDG_")}
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=True
    )
    config, said = done.stdout.splitlines()
    assert Path(config).is_absolute()
    assert said == "This user has no home folder. Set HEADRACE_DATA_DIR to a folder for data."
