"""What a Redis does for the durability of jobs: whether it writes them to a disk, and whether it may drop them."""

from __future__ import annotations

from dataclasses import dataclass

import redis

#: What each value of `appendfsync` means.
_PROMISES = {
    "always": "on, synced at each write: accepted jobs survive restarts and power cuts",
    "everysec": "on, synced each second: jobs survive a restart of Redis; a power cut may lose the last second",
    "no": "on, NOT synced by Redis: a power cut may lose what the system has not written yet, half a minute or more",
    "": "on: jobs survive a restart of Redis; how often it is synced, it does not say",
}


@dataclass(frozen=True)
class Durability:
    """The settings of a Redis that matter, and a text on what they mean."""

    #: `noeviction`, or the policy by which jobs may be dropped.
    policy: str
    append_only: bool
    #: Empty: off, or Redis does not say.
    appendfsync: str

    @property
    def evicts(self) -> bool:
        """Whether jobs may be dropped."""
        return self.policy != "noeviction"

    @property
    def text(self) -> str:
        """What it means, and what to do if it does not do."""
        if self.evicts:
            return (
                f"Redis' maxmemory-policy is {self.policy}, which may drop jobs. "
                "Run: redis-cli CONFIG SET maxmemory-policy noeviction"
            )
        if not self.append_only:
            return "append-only file OFF: jobs survive workers, but not a restart of Redis"
        return f"append-only file {_PROMISES.get(self.appendfsync, _PROMISES[''])}"


def durability(client: redis.Redis) -> Durability:
    """Ask a Redis. Raises: NOT_NOW."""
    policy = client.info("memory").get("maxmemory_policy", "noeviction")
    append_only = bool(client.info("persistence").get("aof_enabled"))
    return Durability(policy, append_only, _appendfsync(client) if append_only else "")


def _appendfsync(client: redis.Redis) -> str:
    try:
        return str(client.config_get("appendfsync").get("appendfsync", ""))
    except redis.exceptions.ResponseError:  # hosted ones forbid CONFIG
        return ""
