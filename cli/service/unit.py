"""The unit file of a systemd service that runs `headrace up`: its text, and where it lies. Starts nothing."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from platformdirs import user_config_path

from gateway.errors import InvalidSetting
from gateway.settings import Settings
from gateway.store.redis_url import masked

NAME = "headrace.service"
#: What it runs: all of Headrace, or the workers of a machine that has joined another one.
UP, WORKERS = ("cli.main", "up"), ("cli.cluster.running",)
#: Where a service of the machine has its data and its settings.
SYSTEM_DATA, SYSTEM_CONFIG = Path("/var/lib/headrace"), Path("/etc/headrace/headrace.toml")
#: Seconds for everything to end, beside what running requests are given.
END_S = 30
#: Lines of a service of the machine; and systemd makes the folder for its data, for its user alone.
_SYSTEM = "User={user}\nProtectSystem=full\n"
_STATE = "StateDirectory=headrace\nStateDirectoryMode=0700\n"
_NETWORK = "Wants=network-online.target\nAfter=network-online.target\n"
_UNIT = """\
# Made by 'headrace service install'; 'headrace service remove' removes it.
[Unit]
Description=Headrace, the model gateway that loses nothing
{after}StartLimitIntervalSec=600
StartLimitBurst=20

[Service]
Type=notify
NotifyAccess=main
ExecStart={command}
{variables}
EnvironmentFile=-{environment_file}
{owner}TimeoutStartSec=150
# The supervisor ends its processes itself, and lets running requests end.
KillMode=mixed
TimeoutStopSec={stop_s}
Restart=on-failure
RestartSec=5
LimitNOFILE=65536
UMask=0077
NoNewPrivileges=yes

[Install]
WantedBy={target}
"""


@dataclass(frozen=True)
class Service:
    """A service of the current user, or of the machine."""

    settings: Settings
    #: The variables that set them.
    variables: Mapping[str, str]
    #: Who runs a service of the machine; empty: it is one of the current user.
    user: str = ""
    #: What runs, by the words behind `python -m`.
    module: tuple[str, ...] = UP

    @classmethod
    def of(
        cls, settings: Settings, environ: Mapping[str, str], user: str = "", module: tuple[str, ...] = UP
    ) -> Service:
        """With absolute paths; those of the machine, if it is one of the machine and no variable names others."""
        variables = {name: environ[name] for name in _names() if name in environ}
        data = SYSTEM_DATA if user and "HEADRACE_DATA_DIR" not in variables else settings.data_dir.absolute()
        config = SYSTEM_CONFIG if user and "HEADRACE_CONFIG" not in variables else settings.config.absolute()
        paths = {"HEADRACE_DATA_DIR": str(data), "HEADRACE_CONFIG": str(config)}
        return cls(replace(settings, data_dir=data, config=config), {**variables, **paths}, user, module)

    @property
    def environment_file(self) -> Path:
        """Variables that the unit does not tell everybody: keys of providers, passwords."""
        return self.settings.config.with_suffix(".env")

    def unit(self) -> str:
        """The text of the unit file.

        Raises:
            InvalidSetting: a variable holds a secret, and is not in the environment file.
        """
        secrets = _secrets(self.variables)
        for name in sorted(secrets - self._told()):
            raise InvalidSetting(
                f"{name} holds a secret, which everybody could read in the unit. "
                f"Write it into {self.environment_file} (a line NAME=value; mode 0600), and try again."
            )
        shown = [f"{name}={value}" for name, value in sorted(self.variables.items()) if name not in secrets]
        system = _SYSTEM.format(user=self.user) + (_STATE if self.settings.data_dir == SYSTEM_DATA else "")
        return _UNIT.format(
            after=_NETWORK if self.user else "",
            command=" ".join(quoted(part).replace("$", "$$") for part in command(*self.module)),
            variables="\n".join(f"Environment={quoted(line)}" for line in shown),
            environment_file=str(self.environment_file).replace("%", "%%"),
            owner=system if self.user else "",
            stop_s=END_S + round(self.settings.shutdown_s),
            target="multi-user.target" if self.user else "default.target",
        )

    def _told(self) -> set[str]:
        """The names of the variables in the environment file."""
        try:
            lines = self.environment_file.read_text().splitlines()
        except FileNotFoundError:
            return set()
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidSetting(f"{self.environment_file} can't be read: {error}.") from error
        return {line.partition("=")[0].strip() for line in lines}


def path(*, machine: bool) -> Path:
    """Where the unit file lies."""
    return (Path("/etc/systemd/system") if machine else user_config_path() / "systemd" / "user") / NAME


def command(*module: str) -> list[str]:
    """A module of this installation, by its interpreter, whose path stays when Headrace is upgraded."""
    return [sys.executable, "-P", "-m", *module]


def quoted(text: str) -> str:
    """A word of a unit file (systemd.syntax(7)). Raises: InvalidSetting if it can't stand there."""
    if not text.isprintable():
        raise InvalidSetting(f"{text!r} can't stand in a unit file: it has characters that can't be printed.")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%")
    return f'"{escaped}"'


def _names() -> list[str]:
    names = [f"HEADRACE_{field.name.upper()}" for field in fields(Settings)]
    return [*names, *(f"{name}_FILE" for name in names)]


def _secrets(variables: Mapping[str, str]) -> set[str]:
    """The names of those that hold one."""
    key, url = variables.get("HEADRACE_BOOTSTRAP_KEY"), variables.get("HEADRACE_REDIS_URL", "")
    return ({"HEADRACE_BOOTSTRAP_KEY"} if key else set()) | ({"HEADRACE_REDIS_URL"} if masked(url) != url else set())
