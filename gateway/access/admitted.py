"""Which machines may reach Redis through the listener, by the keys of their certificates. Who is forgotten is out."""

from __future__ import annotations

from typing import cast

import redis

from gateway.store import keys


class Admissions:
    """Reads and writes them."""

    def __init__(self, client: redis.Redis) -> None:
        self._redis = client

    def all(self) -> dict[str, str]:
        """The digest of each key that is admitted -> the name of its machine."""
        return cast("dict[str, str]", self._redis.hgetall(keys.ADMITTED))

    def admit(self, digest: str, node: str) -> None:
        """Admit a key as the one of a machine, in the place of those that it had, and of the machine it had been."""
        old = [one for one, name in self.all().items() if name == node and one != digest]
        pipe = self._redis.pipeline(transaction=True)
        if old:
            pipe.hdel(keys.ADMITTED, *old)
        pipe.hset(keys.ADMITTED, digest, node)
        pipe.execute()

    def withdraw(self, node: str) -> None:
        """Admit the keys of a machine no longer."""
        old = [one for one, name in self.all().items() if name == node]
        if old:
            self._redis.hdel(keys.ADMITTED, *old)
