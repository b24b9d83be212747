"""The benchmark of the scheduler: when clients come, what is counted of them, and what its table says."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.bench import open_load, scheduling, scheduling_page
from tests.bench.visits import (
    Refusal,
    Visit,
    answers_per_s,
    compared,
    goodput_per_s,
    goodput_share,
    latency,
    poisson,
    refusals,
    tokens_per_s,
)
from tests.bench.workload import percentile


def test_arrivals_are_the_same_for_the_same_seed_and_of_the_rate_that_was_asked_for() -> None:
    times = poisson(20, 500, random.Random(7))
    assert times == poisson(20, 500, random.Random(7))
    assert times != poisson(20, 500, random.Random(8))
    assert times == sorted(times)
    assert 0 < times[0] < times[-1] < 500
    assert len(times) == pytest.approx(20 * 500, rel=0.03)


def test_gaps_between_arrivals_are_as_uneven_as_those_of_independent_people() -> None:
    """An exponential distribution: the deviation is the mean, and 1 - 1/e of the gaps are shorter than it."""
    times = poisson(10, 2_000, random.Random(1))
    gaps = [b - a for a, b in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    assert sum((gap - mean) ** 2 for gap in gaps) / len(gaps) == pytest.approx(mean**2, rel=0.05)
    assert sum(gap < mean for gap in gaps) / len(gaps) == pytest.approx(0.632, abs=0.01)


@pytest.mark.parametrize(("share", "value"), [(0, 1), (0.5, 51), (0.99, 100), (1, 100)])
def test_a_percentile_is_one_of_the_values(share: float, value: int) -> None:
    values = list(range(1, 101))
    random.Random(3).shuffle(values)
    assert percentile(values, share) == value


def served(due_s: float, first_s: float, ended_s: float, tokens: int = 10) -> Visit:
    """A client whose answer came."""
    return Visit(due_s, tries=1, admitted=True, first_s=first_s, ended_s=ended_s, tokens=tokens, until_s=100)


def refused(*told_s: float | None, admitted: bool = False, first_s: float | None = None) -> Visit:
    """A client that was refused so often, and perhaps got in then."""
    turned_away = [Refusal(429, 0.01, seconds) for seconds in told_s]
    return Visit(
        50, tries=len(told_s) + admitted, refusals=turned_away, admitted=admitted, first_s=first_s, until_s=100
    )


def test_who_waits_at_the_end_of_the_run_has_waited_until_then() -> None:
    waiting = Visit(90, tries=1, admitted=True, until_s=100)
    found = latency([served(0, 0.1, 1), served(1, 1.2, 2), waiting])
    assert (found["ttft_p50_ms"], found["ttft_p99_ms"]) == pytest.approx((200, 10_000))
    assert (found["arrivals"], found["unserved"], found["refused"]) == (3, 1, 0)


def test_who_was_refused_has_no_time_to_first_token_but_counts_as_arrived() -> None:
    visits = [served(0, 0.1, 1), refused(5.0)]
    found = latency(visits)
    assert (found["ttft_p99_ms"], found["refused"]) == (pytest.approx(100), 1)
    assert goodput_share(visits) == 0.5


def test_an_answer_is_good_if_it_began_in_time_and_did_not_break() -> None:
    good, late, broken, none = served(0, 2, 3), served(0, 2.1, 3), served(0, 1, 3), Visit(0, tries=1, until_s=100)
    broken.broken = "cut"
    assert [visit.good for visit in (good, late, broken, none)] == [True, False, False, False]
    assert goodput_share([good, late, broken, none]) == 0.25


def test_the_wait_after_a_refusal_counts_from_when_the_retry_was_due() -> None:
    assert refused(5.0, admitted=True, first_s=51.5).good


def test_goodput_leaves_out_what_begins_outside_of_its_window() -> None:
    visits = [served(at_s, at_s + 0.5, at_s + 1) for at_s in range(10)]
    assert goodput_per_s(visits, 5, 10) == 1.0
    assert goodput_per_s(visits, 5, 5.5) == 0.0


def test_of_the_refused_only_those_who_came_back_are_judged() -> None:
    visits = [
        served(0, 0.1, 1),
        refused(1.0, admitted=True, first_s=50.1),
        refused(2.0, 3.0, admitted=True, first_s=50.1),
        refused(4.0, None, 6.0),
        refused(60.0),
    ]
    found = refusals(visits)
    assert (found["refused"], found["not_back_yet"], found["statuses"]) == (4, 1, [429])
    assert found["first_retry_share"] == pytest.approx(1 / 3)
    assert (found["most_tries"], found["never_in"], found["without_retry_after"]) == (3, 1, 1)
    assert (found["retry_after_p50_s"], found["retry_after_max_s"]) == (4.0, 60.0)


def test_without_refusals_there_is_no_share() -> None:
    found = refusals([served(0, 0.1, 1)])
    assert [found[name] for name in ("first_retry_share", "refused_after_p99_ms", "retry_after_p50_s")] == [None] * 3


def test_two_latencies_are_compared_if_there_are_two() -> None:
    alone, beside = latency([served(0, 0.1, 1)]), latency([served(0, 0.3, 1)])
    assert compared(alone, beside)["ttft_p99_ratio"] == pytest.approx(3)
    assert compared(alone, latency([refused(5.0)]))["ttft_p99_ratio"] is None


def test_throughput_does_not_depend_on_which_answers_end_within_the_window() -> None:
    """Four streams at once, of ten tokens a second each: all of a wave end together, just behind the window."""
    waves = [served(at_s, at_s, at_s + 4, tokens=40) for at_s in (0, 4, 8) for _ in range(4)]
    assert tokens_per_s(waves, 1, 7) == pytest.approx(40)
    assert tokens_per_s(waves, 1, 9) == pytest.approx(40)
    assert answers_per_s(waves, 1, 7) == pytest.approx(1)


def test_an_answer_of_one_token_counts_when_it_comes() -> None:
    assert tokens_per_s([served(0, 1, 1, tokens=1), served(0, 3, 3, tokens=1)], 0, 2) == 0.5


RESULTS = {"backlog": {"ttft_p50_ratio": 1.2, "beside": {"ttft_p99_ms": 1234.0}}, "keeper": {"round_max_ms": 80.0}}


def test_the_table_has_what_was_measured_beside_what_was_promised() -> None:
    text = scheduling_page.table(RESULTS)
    assert "| 1.20 times | at most 1.50 times |" in text
    assert "| 1,234 ms |  |" in text
    assert len(text.splitlines()) == 2 + 3
    assert [line.endswith("NOT KEPT") for line in scheduling_page.lines(RESULTS)] == [False, False, True]


def test_the_table_is_put_between_its_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin = "# Before\n\n<!-- scheduling: made by tests/bench/scheduling.py -->\n"
    page.write_text(f"{begin}old\n<!-- end -->\n\nafter\n")
    scheduling_page.write(RESULTS, page)
    assert page.read_text() == f"{begin}{scheduling_page.table(RESULTS)}<!-- end -->\n\nafter\n"


def test_every_row_is_of_a_scenario() -> None:
    assert {row.scenario for row in scheduling_page.ROWS} == set(scheduling.SCENARIOS)


#: A stream of two tokens, in chunks, and a refusal.
STREAM = (
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
    b'5f\r\ndata: {"choices":[{"delta":{"content":"one"}}]}\n\n\r\n',
    b'5f\r\ndata: {"choices":[{"delta":{"content":"two"}}],"usage":{"completion_tokens": 2}}\n\n\r\n0\r\n\r\n',
)
REFUSAL = (b"HTTP/1.1 429 TOO MANY REQUESTS\r\nRetry-After: 0\r\nContent-Length: 2\r\n\r\n{}",)
FAILURE = (STREAM[0], b"20\r\nevent: error\ndata: {}\n\n\r\n0\r\n\r\n")


def visits_of(*answers: tuple[bytes, ...], obeys: bool = True, **run: Any) -> list[Mapping[str, Any]]:
    """What one client of the load generator sees of a server that gives these answers; then it gives none."""
    queue = list(answers)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while await reader.readuntil(b"}"):
                for part in queue.pop(0) if queue else ():
                    writer.write(part)
                    await writer.drain()
        writer.close()

    async def ask() -> Any:
        server = await asyncio.start_server(answer, open_load.HOST)
        async with server:
            port = server.sockets[0].getsockname()[1]
            client = {"at_s": 0.0, "key": "k", "body": {}, "obeys": obeys}
            return await open_load.run(port=port, path="/", clients=[client], **{"stop_s": 30.0, **run})

    found: list[Mapping[str, Any]] = asyncio.run(ask())["visits"]
    return found


def test_who_obeys_comes_back_until_it_gets_in() -> None:
    (seen,) = visits_of(REFUSAL, REFUSAL, STREAM)
    assert (seen["tries"], seen["admitted"], seen["tokens"], seen["broken"]) == (3, True, 2, "")
    assert [(refusal["status"], refusal["retry_after_s"]) for refusal in seen["refusals"]] == [(429, 0.0)] * 2
    assert 0 < seen["due_s"] <= seen["first_s"] <= seen["ended_s"] <= seen["until_s"]


def test_who_does_not_obey_goes_away() -> None:
    (seen,) = visits_of(REFUSAL, STREAM, obeys=False)
    assert (seen["tries"], seen["admitted"], seen["first_s"]) == (1, False, None)


def test_a_stream_that_tells_of_an_error_is_broken() -> None:
    (seen,) = visits_of(FAILURE)
    assert (seen["admitted"], seen["first_s"]) == (True, None)
    assert seen["broken"]


def test_the_generator_ends_by_itself_where_no_answer_ends() -> None:
    (seen,) = visits_of(STREAM[:2], stop_s=0.3)
    assert (seen["admitted"], seen["tokens"], seen["ended_s"]) == (True, 1, None)
    assert seen["until_s"] >= 0.3
    (silent,) = visits_of((), stop_s=0.3)
    assert (silent["tries"], silent["admitted"], silent["first_s"]) == (1, False, None)


def test_clients_that_follow_each_other_are_as_many_as_there_is_time_for() -> None:
    seen = visits_of(*[STREAM] * 3, hold=1, hold_s=0.3, stop_s=0.6)
    assert [visit["tokens"] for visit in seen] == [2, 2, 2, 0]
    assert [visit["tries"] for visit in seen] == [1] * 4
