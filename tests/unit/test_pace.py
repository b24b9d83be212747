"""How often a worker writes to its streams, and what the engine process keeps for the next time."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.settings import Settings
from workers.engines.base import SequenceOutput
from workers.engines.flush_interval import IMMEDIATE, MANY_STREAMS, FlushInterval
from workers.engines.process import Outbox
from workers.journal.pace import flush_interval_of

#: Longer than any test.
NEVER = FlushInterval(3600, 3600)


def test_the_more_streams_the_less_often_each_is_written_to() -> None:
    pace = flush_interval_of(Settings(stream_interval_s=0.03, stream_interval_max_s=0.1))
    intervals = [pace.interval_s(n) for n in (0, 1, MANY_STREAMS // 2, MANY_STREAMS, 4 * MANY_STREAMS)]
    assert intervals == pytest.approx([0.03, 0.03, 0.05, 0.1, 0.1])


def outputs(frame: dict[str, Any]) -> dict[int, tuple[list[int], list[float] | None, str | None]]:
    """Ids, logprobs and finish reason by sequence, as the model worker gets them."""
    return {out[0]: (out[1], out[2], out[3]) for out in frame["out"]}


def test_without_a_pace_each_step_is_a_frame() -> None:
    sent: list[dict[str, Any]] = []
    outbox = Outbox(sent.append, IMMEDIATE)
    for token in range(3):
        outbox.put([SequenceOutput(1, [token])], step_s=0.0, sequences=1, streams=1)
    assert [outputs(frame) for frame in sent] == [{1: ([token], None, None)} for token in range(3)]
    assert [frame["steps"] for frame in sent] == [1, 1, 1]


def test_only_the_first_and_the_last_of_a_sequence_go_before_their_time() -> None:
    sent: list[dict[str, Any]] = []
    outbox = Outbox(sent.append, NEVER)
    outbox.put([], step_s=0.0, sequences=2, streams=2)  # the first frame is due
    outbox.put([SequenceOutput(1, [10], [-0.1])], step_s=0.0, sequences=1, streams=1)
    outbox.put([SequenceOutput(1, [11], [-0.2])], step_s=0.0, sequences=1, streams=1)
    outbox.put([SequenceOutput(1, [12], [-0.3]), SequenceOutput(2, [20])], step_s=0.0, sequences=2, streams=2)
    outbox.put([SequenceOutput(1, [13], [-0.4]), SequenceOutput(2, [21])], step_s=0.0, sequences=2, streams=2)
    outbox.put([SequenceOutput(1, [14], [-0.5], "stop"), SequenceOutput(2, [22])], step_s=0.0, sequences=1, streams=1)
    assert [outputs(frame) for frame in sent[1:]] == [
        {1: ([10], [-0.1], None)},
        {2: ([20], None, None)},
        {1: ([11, 12, 13, 14], [-0.2, -0.3, -0.4, -0.5], "stop")},
    ]
    assert [frame["steps"] for frame in sent[1:]] == [1, 2, 2]
    assert [frame["sequences"] for frame in sent[1:]] == [1, 2, 1]
    outbox.put([SequenceOutput(2, [], None, "cancelled")], step_s=0.0, sequences=0, streams=0)
    assert outputs(sent[-1]) == {2: ([21, 22], None, "cancelled")}, "what was kept is not lost"


def test_all_that_is_kept_goes_when_it_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = 1000.0
    monkeypatch.setattr("workers.engines.process.time.monotonic", lambda: clock)
    sent: list[dict[str, Any]] = []
    outbox = Outbox(sent.append, FlushInterval(0.03, 0.1))
    for step in range(25):
        outbox.put(
            [SequenceOutput(i, [step]) for i in range(MANY_STREAMS)],
            step_s=0.0,
            sequences=MANY_STREAMS,
            streams=MANY_STREAMS,
        )
        clock += 0.0101
    assert [frame["steps"] for frame in sent] == [1, 10, 10]
    assert [outputs(frame)[7][0] for frame in sent] == [[0], [*range(1, 11)], [*range(11, 21)]]


def test_a_step_without_output_is_told_of_too() -> None:
    sent: list[dict[str, Any]] = []
    outbox = Outbox(sent.append, IMMEDIATE)
    outbox.put([], step_s=0.0, sequences=1, streams=1)
    assert sent == [{"op": "step", "out": [], "sequences": 1, "kv_used": 0, "steps": 1, "times": [0.0] * 3}]
