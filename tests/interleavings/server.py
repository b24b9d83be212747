"""The Redis of the sequences as its owner sees it: its disk, its clock, its memory, and who listens."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Iterator

import redis

from tests.interleavings.clock import EPOCH_S, Clock
from tests.interleavings.wire import CLOCK, WIRE

#: States that the disk keeps, each in a database of its own.
KEPT = 8
#: What was written longer ago is safe on the disk.
SYNC_S = 1.0

#: Moves the clock and, with it, whatever expires. ARGV: seconds, microseconds, ms that have passed.
_PASS = """
redis.call('HSET', KEYS[1], 's', ARGV[1], 'us', ARGV[2])
for _, key in ipairs(redis.call('KEYS', '*')) do
  local left = redis.call('PTTL', key)
  if left >= 0 and left <= tonumber(ARGV[3]) then
    redis.call('DEL', key)
  elseif left >= 0 then
    redis.call('PEXPIRE', key, left - ARGV[3])
  end
end
"""

#: What must hold at any moment; then all is copied to the database ARGV[1]. Returns what does not hold.
_CHECK = """
local broken = {}
local indexes = redis.call('KEYS', 'hr:queued:*')
indexes[#indexes + 1] = 'hr:running'
for _, key in ipairs(redis.call('KEYS', 'hr:{*}')) do
  local id = string.sub(key, 5, -2)
  local state, seq, compacted = unpack(redis.call('HMGET', key, 'state', 'seq', 'compacted'))
  local ttl, found = redis.call('PTTL', key), false
  for _, index in ipairs(indexes) do
    found = found or redis.call('ZSCORE', index, id)
  end
  if not state then
    broken[#broken + 1] = id .. ' is half there'
  elseif state == 'queued' or state == 'running' then
    if not found then
      broken[#broken + 1] = id .. ' is ' .. state .. ' and in no index'
    end
    if ttl ~= -1 then
      broken[#broken + 1] = id .. ' is ' .. state .. ' and expires'
    end
  elseif ttl < 0 then
    broken[#broken + 1] = id .. ' is ' .. state .. ' and does not expire'
  end
  local last = redis.call('XREVRANGE', key .. ':events', '+', '-', 'COUNT', 1)
  local length = redis.call('XLEN', key .. ':events')
  seq = tonumber(seq) or 0
  if (last[1] and last[1][1] or '0-0') ~= seq .. '-0' or (not compacted and length ~= seq) then
    broken[#broken + 1] = id .. ' has ' .. length .. ' entries, but is at ' .. seq
  end
end
redis.call('SELECT', ARGV[1])
redis.call('FLUSHDB')
redis.call('SELECT', 0)
for _, key in ipairs(redis.call('KEYS', '*')) do
  redis.call('COPY', key, key, 'DB', ARGV[1])
end
return broken
"""

#: Puts the database ARGV[1] in the place of all that there is.
_RESTORE = """
redis.call('SELECT', 0)
redis.call('FLUSHDB')
redis.call('SELECT', ARGV[1])
for _, key in ipairs(redis.call('KEYS', '*')) do
  redis.call('COPY', key, key, 'DB', 0)
end
"""

#: What is left of work, see `left`.
_LEFT = """
for _, key in ipairs(redis.call('KEYS', 'hr:{*}')) do
  local state = redis.call('HGET', key, 'state')
  if state == 'queued' or state == 'running' then
    return 1
  end
end
local indexes = #redis.call('KEYS', 'hr:queued:*') + redis.call('EXISTS', 'hr:running')
return indexes + #redis.call('KEYS', 'hr:open:*') > 0 and 2 or 0
"""


class Server:
    """One redis-server for all sequences."""

    def __init__(self, client: redis.Redis, clock: Clock) -> None:
        self.redis = client
        self.clock = clock
        self._pass, self._check = client.register_script(_PASS), client.register_script(_CHECK)
        self._restore, self._left = client.register_script(_RESTORE), client.register_script(_LEFT)
        #: The states of the last second: number of the database, time.
        self._disk: deque[tuple[int, float]] = deque(maxlen=KEPT)
        self._slot = 0
        self._starts = 0
        #: Why it takes no writes; empty if it does.
        self.refusing = ""
        #: What is published to hubs.
        self._tap = client.pubsub()
        self._tap.psubscribe("hr:hub:*")
        #: It does not know our scripts.
        self.forgetful = True

    def empty(self) -> None:
        """Begin anew, an hour later, so that nobody's memory of before counts."""
        self.refuse_writes("")
        self.redis.flushall()
        self._disk.clear()
        self.restarted()
        self.pass_time(3600.0)

    def pass_time(self, seconds: float) -> None:
        """Let time pass everywhere."""
        self.clock.now_s += seconds
        self.set_clock(int(seconds * 1000))
        while self._disk and self._disk[0][1] < self.clock.now_s - SYNC_S:
            self._disk.popleft()

    def now_ms(self) -> int:
        """What its clock says."""
        return EPOCH_S * 1000 + round(self.clock.now_s * 1e6) // 1000

    def set_clock(self, passed_ms: int = 0) -> None:
        """Make Redis' clock right."""
        us = round(self.clock.now_s * 1e6)
        with self.taking_writes():
            self._pass(keys=[CLOCK], args=[EPOCH_S + us // 1_000_000, us % 1_000_000, passed_ms])

    def check(self) -> list[str]:
        """What does not hold. The state as it is now may be the one that a power cut leaves."""
        self._slot = self._slot % KEPT + 1
        with self.taking_writes():
            broken = self._check(args=[self._slot])
        self._disk.append((self._slot, self.clock.now_s))
        return [str(line) for line in broken]

    def rewind(self, depth: int) -> None:
        """A power cut: what was written since `depth` states ago is lost, as far as it is younger than a second."""
        for _ in range(min(depth, len(self._disk) - 1)):
            self._disk.pop()
        if self._disk:
            self._slot = self._disk[-1][0]
            with self.taking_writes():
                self._restore(args=[self._disk[-1][0]])
            self.set_clock()
        self.restarted()
        self.forget_scripts()
        self.redis.client_kill_filter(_type="normal", skipme=True)

    def restarted(self) -> None:
        """It has another name for itself."""
        self._starts += 1
        WIRE.run_id = f"run{self._starts}"

    def forget_scripts(self) -> None:
        """As after a restart; ours are loaded again at once."""
        self.redis.script_flush()
        self.forgetful = True
        for script in (self._pass, self._check, self._restore, self._left):
            self.redis.script_load(script.script)

    def refuse_writes(self, why: str) -> None:
        """It has no `memory`, or too few `replicas`; empty: it takes writes again."""
        if why != self.refusing:
            self._configure(why)
            self.refusing = why

    def _configure(self, why: str) -> None:
        self.redis.config_set("maxmemory", "1" if why == "memory" else "0")
        self.redis.config_set("min-replicas-to-write", "1" if why == "replicas" else "0")

    @contextlib.contextmanager
    def taking_writes(self) -> Iterator[None]:
        """Its owner's own writes are never refused."""
        if not self.refusing:
            yield
            return
        self._configure("")
        yield
        self._configure(self.refusing)

    def published(self, hub_id: str) -> list[str]:
        """What was published to a hub since the last call."""
        with self.taking_writes():
            self.redis.publish("hr:hub:mark", "")
        found = []
        while message := self._tap.get_message(timeout=5.0):
            if message["channel"] == "hr:hub:mark":
                break
            if message["channel"] == f"hr:hub:{hub_id}":
                found.append(str(message["data"]))
        return found

    def left(self) -> int:
        """What is left: 1 = jobs that have not ended, 2 = only entries of jobs that have, or were never made."""
        return int(self._left())

    def records(self) -> set[str]:
        """All jobs."""
        return {str(key)[4:-1] for key in self.redis.keys("hr:{*}")}
