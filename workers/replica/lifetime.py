"""Events with which the threads of a model worker tell each other that it ends. Knows nothing else."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lifetime:
    """Each is set once, by the thread that finds out, and never cleared."""

    #: The replica is no longer desired: it was unloaded, replaced, or put to sleep.
    unwanted: threading.Event = field(default_factory=threading.Event)
    #: The engine can't be started again.
    lost: threading.Event = field(default_factory=threading.Event)
    #: The process must end, for one of these reasons.
    over: threading.Event = field(default_factory=threading.Event)
    #: The process ends: no more jobs are begun.
    stopping: threading.Event = field(default_factory=threading.Event)
