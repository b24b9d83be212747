"""The rules by which hypothesis makes sequences: what is done, where it breaks, and what is checked after each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule

from tests.interleavings.invariants import come_to_rest, verify
from tests.interleavings.stage import Fault
from tests.interleavings.world import World

#: Numbers stand for a job, a client, a worker or a depth; the world takes them modulo what there is.
SOME = st.integers(0, 5)
#: Most operations are short.
PLACES = st.sampled_from((*range(15), *range(8), *range(4), *range(4)))
KINDS = st.sampled_from(("chat", "background", "idempotent"))
MEANWHILE = st.sampled_from(
    (
        *("freeze", "freeze", "freeze", "round", "round", "take", "take", "tend", "step", "rewind", "rewind"),
        *("cancel", "leave", "forget_scripts", "deliver", "lose_hints"),
    )
)
FAULTS = st.one_of(
    st.none(),
    st.none(),
    st.builds(Fault, st.sampled_from(("before", "after", "refused", "dies")), PLACES),
    st.builds(Fault, st.just("meanwhile"), PLACES, MEANWHILE, st.integers(0, 9)),
)


class Interleavings(RuleBasedStateMachine):
    """Rules are one line each: the world does the rest. `make_world` is set by the test."""

    make_world: Callable[[], World]
    counts: Counter[str] = Counter()

    def __init__(self) -> None:
        super().__init__()
        self.world = type(self).make_world()
        self.broken = False

    def check_invariants(self, *args: object, **kwargs: object) -> None:
        """After each step."""
        super().check_invariants(*args, **kwargs)
        type(self).counts["steps"] += 1
        self.broken = True
        self.world.check()
        self.broken = False

    def teardown(self) -> None:
        """At the end of a sequence, if nothing was wrong by then."""
        if not self.broken:
            come_to_rest(self.world)
            type(self).counts["preemptions"] += verify(self.world)
            type(self).counts["sequences"] += 1

    @initialize(kinds=st.lists(KINDS, min_size=1, max_size=3))
    def begins(self, kinds: list[str]) -> None:
        for number, kind in enumerate(kinds):
            self.world.submit(kind, max_tokens=6, number=number)

    @rule(kind=KINDS, n=st.integers(1, 2), tokens=st.integers(1, 6), number=st.integers(0, 1), fault=FAULTS)
    def submits(self, kind: str, n: int, tokens: int, number: int, fault: Fault | None) -> None:
        self.world.submit(kind, n, tokens, number, fault)

    @rule(does=st.sampled_from(("read", "cancel", "reconnect", "leave")), number=SOME, fault=FAULTS)
    def client(self, does: str, number: int, fault: Fault | None) -> None:
        self.world.do(does, number, fault)

    @rule(does=st.sampled_from(("take", "step", "tend")), number=SOME, fault=FAULTS)
    def worker(self, does: str, number: int, fault: Fault | None) -> None:
        self.world.do(does, number, fault)

    @rule(does=st.sampled_from(("engine_dies", "drain", "hand_over", "refuse")), number=SOME, fault=FAULTS)
    def worker_stumbles(self, does: str, number: int, fault: Fault | None) -> None:
        self.world.do(does, number, fault)

    @rule(does=st.sampled_from(("round", "round", "compact")), number=SOME, fault=FAULTS)
    def keeper(self, does: str, number: int, fault: Fault | None) -> None:
        self.world.do(does, number, fault)

    @rule(does=st.sampled_from(("deliver", "lose", "double", "lose_hints", "double_hints", "forget_scripts")))
    def on_the_way(self, does: str) -> None:
        self.world.do(does, 0)

    @rule(seconds=st.sampled_from((0.25, 1.0, 2.0, 4.0)))
    def time_passes(self, seconds: float) -> None:
        self.world.elapse(seconds)

    @rule(number=SOME, buried=st.booleans())
    def killed(self, number: int, buried: bool) -> None:
        self.world.kill(self.world.processes[number % 5], buried=buried)

    @rule(does=st.sampled_from(("freeze", "cut")), number=SOME)
    def stopped(self, does: str, number: int) -> None:
        self.world.do(does, number)

    @rule(does=st.sampled_from(("rewind", "rewind", "refuse_writes", "away")), number=SOME)
    def redis(self, does: str, number: int) -> None:
        self.world.do(does, number)
