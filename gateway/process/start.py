"""How each process of Headrace starts, and how it starts others: private files, and only code of this installation."""

from __future__ import annotations

import gc
import logging
import os
import signal
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn
from urllib.parse import parse_qsl, unquote, urlsplit

from gateway.errors import HeadraceError, InvalidSetting
from gateway.process import logs, run_module
from gateway.process.environment import LOG_FORMAT
from gateway.settings import Settings

log = logging.getLogger(__name__)

#: Only the owner may read what this process writes.
UMASK = 0o077
PRIVATE = 0o700
#: Exit status of a process that has lost a loop (`gateway/store/loop.py`; EX_SOFTWARE of sysexits.h).
LOST_A_LOOP = 70
#: Objects that are made before those in cycles are looked for: a request leaves hardly any.
GARBAGE = 50_000


def run(main: Callable[[Settings], int | None]) -> NoReturn:
    """Run a process of the Procfile, or a model worker: load the settings, then call `main`, which returns the exit
    status. An error of ours is one line of the log, and status 1.
    """
    logs.set_up("info", form=os.environ.get(LOG_FORMAT, ""))
    try:
        settings = Settings.load()
        begin(settings)
        sys.exit(main(settings))
    except HeadraceError as error:
        log.critical(error.message)
        sys.exit(1)


def collect_less() -> None:
    """Spend less time on cycles of garbage, once a process has all that it serves with: the present objects are
    permanent, and kept out of later collections.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(GARBAGE, 50, 50)


def begin(settings: Settings) -> None:
    """Every process with settings calls this first. Raises: InvalidSetting if the data folder is a shared one."""
    begin_child(level=settings.log_level, form=settings.log_format, secrets=secrets_of(settings))
    if settings.data_dir.exists():
        private_folder(settings.data_dir)


def begin_child(*, level: str = "info", form: str = "", secrets: tuple[str, ...] = ()) -> None:
    """The same for child processes that get everything from their parent."""
    os.umask(UMASK)
    while (handle := os.open(os.devnull, os.O_RDWR)) <= 2:  # else a file of ours may become stdout
        continue
    os.close(handle)
    os.environ["PYTHONSAFEPATH"] = "1"  # the same for processes that libraries start
    logs.set_up(level, form=form or os.environ.get(LOG_FORMAT, ""), secrets=secrets)


def module_command(name: str, *args: str) -> list[str]:
    """The command that runs a module of ours, with the code that this process runs."""
    return [sys.executable, "-P", run_module.__file__, "-m", name, *args]


def private_folder(path: Path) -> Path:
    """Make a folder that only its owner can read, or restrict an existing one.

    Raises:
        InvalidSetting: it is one that all users share, such as /tmp.
        OSError: it can't be made.
    """
    path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    found = path.stat()
    if found.st_mode & stat.S_ISVTX:
        raise InvalidSetting(f"{path} is shared by all users of this machine. Set HEADRACE_DATA_DIR to a folder in it.")
    if found.st_mode & ~PRIVATE & 0o777 and found.st_uid == os.geteuid():
        path.chmod(PRIVATE)
    return path


def how_ended(status: int) -> str:
    """A text that says how a process ended; a negative status is the signal's number."""
    if status == LOST_A_LOOP:
        return f"ended itself with status {status}, since one of its loops had ended; its log says which"
    if status >= 0:
        return f"exited with status {status}"
    names = {int(number): number.name for number in signal.Signals}  # those in real time have none
    return f"was killed by {names.get(-status, f'signal {-status}')}"


def secrets_of(settings: Settings) -> tuple[str, ...]:
    """The secrets in the settings, which must be in no log: passwords of URLs, encoded and decoded."""
    written = {settings.bootstrap_key}
    try:
        url = urlsplit(settings.redis_url)
    except ValueError:  # whoever connects says so
        return tuple(written)
    written |= {url.netloc.rpartition("@")[0].partition(":")[2]}
    written |= {value for name, value in parse_qsl(url.query) if "password" in name}
    return tuple(written | {unquote(one) for one in written})
