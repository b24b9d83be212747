"""Detects a Redis that has lost its data, by an id that is kept both in Redis and in the data folder.

A Redis that comes back empty (another disk, a lost volume) looks like a new one without keys and replicas. If it were
taken for one, everything that still runs would be ended. So a process that has seen the id, or finds it in the data
folder, notices that it is gone, logs that, and changes nothing until the data is back or an operator accepts the loss.
If neither Redis nor the data folder has an id, the installation is new.
"""

from __future__ import annotations

import logging
import os
import secrets
import time
from pathlib import Path
from typing import cast

import redis

from gateway.errors import StoreLost
from gateway.store import keys

log = logging.getLogger(__name__)

#: How often the loss is logged again.
SHOUT_S = 60.0
#: Suffix of the id of an installation that an operator has accepted instead of a lost one.
_ACCEPTED = "+accepted"
#: What an operator can do.
REMEDY = (
    "Restore the data of Redis and start it again, or accept the loss with 'headrace up --accept-empty-redis' or "
    "'headrace accept-empty-redis' (docs/operations.md)."
)


class Installation:
    """Compares the id in Redis with the one that this process and its data folder know."""

    def __init__(self, client: redis.Redis, data_dir: Path) -> None:
        self._redis = client
        self._path = data_dir / "installation"
        self._known = self._read()
        #: Whether this process has seen the id; then another id is not due to changed settings.
        self._seen = False
        self._next_shout = 0.0
        self.lost = False

    def check(self) -> bool:
        """Whether the data is lost."""
        return self.judge(cast("str | None", self._redis.get(keys.INSTALLATION)))

    def begin(self) -> bool:
        """The same, but a new installation gets its id. For the keeper and `headrace up`."""
        found = cast("str | None", self._redis.get(keys.INSTALLATION))
        if found is None and not self._known and not self._read():
            self._redis.set(keys.INSTALLATION, secrets.token_hex(8), nx=True)
            return self.check()
        return self.judge(found)

    def accept(self) -> None:
        """Accept this Redis as it is; all processes follow."""
        accepted = secrets.token_hex(8) + _ACCEPTED
        self._redis.set(keys.INSTALLATION, accepted)
        self.judge(accepted)

    def require(self, found: str | None) -> None:
        """Raises: StoreLost if the id found in Redis, or its absence, shows that the data is lost."""
        if self.judge(found):
            raise StoreLost("The job store came back without its data, and waits for its operator.", retry_after_s=5)

    def judge(self, found: str | None) -> bool:
        """Whether the data is lost, by the id found in Redis."""
        self._known = self._known or self._read()
        before, self.lost = self.lost, self._is_lost(found)
        if self.lost:
            self._shout(found)
        elif found:
            if before:
                log.warning("Redis holds the data of installation %s again", found)
            self._remember(found)
        return self.lost

    def _is_lost(self, found: str | None) -> bool:
        if found is None:
            return bool(self._known)
        return self._seen and found != self._known and not found.endswith(_ACCEPTED)

    def _shout(self, found: str | None) -> None:
        if time.monotonic() < self._next_shout:
            return
        self._next_shout = time.monotonic() + SHOUT_S
        instead = f"that of another installation, {found}" if found else "nothing of it"
        log.critical("THE DATA OF INSTALLATION %s IS LOST: Redis holds %s. %s", self._known, instead, REMEDY)

    def _remember(self, found: str) -> None:
        if found == self._known and self._seen:
            return
        self._seen = True
        if self._known and found != self._known:
            log.warning("this data folder belongs to installation %s now, no longer to %s", found, self._known)
        self._known = found
        draft = self._path.with_name(f"{self._path.name}.{os.getpid()}")
        try:
            draft.write_text(found)
            draft.replace(self._path)
        except OSError as error:
            log.warning("%s can't be written, so only this process knows its installation: %s", self._path, error)

    def _read(self) -> str:
        try:
            return self._path.read_text().strip()
        except OSError:
            return ""
