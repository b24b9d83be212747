"""systemd, by its own commands: each failure is one line."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

from gateway.errors import InvalidSetting, Unavailable

#: It is there if the machine was booted with systemd (sd_booted(3)).
_BOOTED = Path("/run/systemd/system")
#: How long one command may take: a start waits until requests are taken.
COMMAND_S = 200


class Systemd:
    """The manager of this user's services, or of the machine's."""

    def __init__(self, *, machine: bool) -> None:
        self._options = () if machine else ("--user",)

    def call(self, *command: str) -> str:
        """What `systemctl COMMAND` prints. Raises: Unavailable, with what it says."""
        return _run("systemctl", *self._options, *command)

    def is_active(self, unit: str) -> bool:
        """Whether the unit runs, or begins to."""
        try:
            self.call("is-active", "--quiet", unit)
        except Unavailable:
            return False
        return True

    @property
    def logs(self) -> str:
        """The command that shows what a unit has said."""
        return " ".join(("journalctl", *self._options, "--unit"))


def require() -> None:
    """Raises: InvalidSetting if this machine is not run by systemd."""
    if not _BOOTED.is_dir() or not shutil.which("systemctl"):
        raise InvalidSetting(
            "No systemd runs here, as in a container. 'headrace up --detach' runs in the background without it; "
            "'headrace service install --print' prints the unit for another machine."
        )


def linger() -> None:
    """Let this user's services run without a login. Raises: Unavailable."""
    _run("loginctl", "enable-linger")


def _run(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_S, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unavailable(f"{' '.join(command)} failed: {error}.") from error
    if done.returncode:
        said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
        raise Unavailable(f"{' '.join(command)} failed: {said}")
    return done.stdout
