"""How far a deployment is: whatever happens to its replicas, and whatever others take meanwhile, it never falls."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.startup import STAGES
from gateway.deployments.views import Progress, detail
from gateway.jobs.events import Event, EventType
from gateway.jobs.record import DEPLOYMENT, Job, JobState

REPLICAS = ("a", "b", "c")


def job(expected_s: Mapping[str, float], *, replicas: int = 1, state: JobState = JobState.RUNNING) -> Job:
    """A deployment of some replicas."""
    wanted = [{"replica_id": name, "node": "n1", "device": "cpu0"} for name in REPLICAS[:replicas]]
    request = {"wanted": wanted, "expected_s": dict(expected_s)}
    return Job(id="deploy-1", state=state, kind=DEPLOYMENT, model="m", key_id="k", request=request)


def stage(seq: int, replica: str, name: str, status: str, progress: int = 0) -> Event:
    """What a replica's log says of one of its stages."""
    body = {"type": "stage", "c": "x", "at": seq, "replica": replica, "stage": name, "status": status}
    return Event(seq, {**body, "progress": progress})


@st.composite
def tries(draw: st.DrawFn) -> list[tuple[str, int]]:
    """What one replica says, in its order: stages up to some point, again and again."""
    said: list[tuple[str, int]] = []
    for _ in range(draw(st.integers(1, 2))):
        for name in list(STAGES)[: draw(st.integers(1, len(STAGES)))]:
            said += [
                (f"{name} in_progress", percent) for percent in sorted(draw(st.lists(st.integers(0, 99), max_size=3)))
            ]
            said.append((f"{name} {draw(st.sampled_from(('completed', 'failed')))}", draw(st.integers(0, 100))))
    return said


@st.composite
def journals(draw: st.DrawFn) -> list[Event]:
    """What several replicas say, mixed."""
    logs = {name: draw(tries()) for name in REPLICAS}
    order = draw(st.permutations([name for name, said in logs.items() for _ in said]))
    events = []
    for seq, name in enumerate(order, 1):
        what, percent = logs[name].pop(0)
        events.append(stage(seq, name, *what.split(), percent))  # type: ignore[arg-type]
    return events


def percents(deployment: Job, events: list[Event]) -> list[int]:
    """The progress that is shown after each event."""
    return [int(detail(deployment, events[:count])["progress"]) for count in range(len(events) + 1)]


@given(journals(), st.fixed_dictionaries({name: st.floats(0, 1e6) for name in STAGES}))
def test_it_never_falls_and_stays_within_its_bounds(events: list[Event], expected_s: dict[str, float]) -> None:
    seen = percents(job(expected_s, replicas=3), events)
    assert all(before <= after for before, after in pairwise(seen))
    assert seen[0] == 0
    assert all(0 <= percent <= 100 for percent in seen)


def test_it_is_weighed_by_what_was_expected_at_its_beginning() -> None:
    expected_s = dict(zip(STAGES, (1.0, 1.0, 2.0, 4.0, 2.0), strict=True))
    events = [stage(seq, "a", name, "completed", 100) for seq, name in enumerate(STAGES, 1)]
    assert percents(job(expected_s), events) == [0, 10, 20, 40, 80, 100]
    assert percents(job({}), events) == [0, 20, 40, 60, 80, 100], "a record of an earlier version has no expectations"


def test_a_replica_that_begins_anew_shows_its_stages_anew() -> None:
    first, second, *_ = STAGES
    events = [
        stage(1, "a", first, "completed", 100),
        stage(2, "a", second, "in_progress", 50),
        stage(3, "a", second, "failed", 50),
        stage(4, "a", first, "in_progress"),
    ]
    shown: dict[str, Any] = detail(job({}), events)
    assert [one["status"] for one in shown["stages"]] == ["in_progress", *["pending"] * 4]
    assert (shown["current_stage"], shown["progress"]) == (first, 30)
    progress = Progress.from_events(job({}), [*events, stage(5, "a", first, "completed", 100)])
    assert progress.seconds() == {first: 0.001}


def test_the_stream_of_events_and_the_record_agree() -> None:
    progress = Progress.from_events(job({}), [])
    events = [stage(seq, "a", name, "completed", 100) for seq, name in enumerate(STAGES, 1)]
    for count, event in enumerate(events, 1):
        progress.take(EventType.STAGE, event.body)
        assert progress.percent == detail(job({}), events[:count])["progress"]
