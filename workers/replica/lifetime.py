"""How far a model worker is from its end: what its threads tell each other. Knows nothing else."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Lifetime:
    """Each is set once, by whoever finds it out, and never cleared."""

    #: Nobody wants this replica any more: it was unloaded, replaced, or put to sleep.
    unwanted: threading.Event = field(default_factory=threading.Event)
    #: The engine can't be started again.
    lost: threading.Event = field(default_factory=threading.Event)
    #: The process is to end, for one of these reasons.
    over: threading.Event = field(default_factory=threading.Event)
    #: The process ends: no job is begun any more.
    stopping: threading.Event = field(default_factory=threading.Event)
