"""The timeline of a job, and asking the same again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import psutil
import pytest

from gateway.store import keys
from tests.stack import Stack, Stream, chat, eventually, running, stopped


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("t")
    with running(folder, {"fake": {"step_s": 0.02}}, lease_s=2.0, max_batch_size=2, preemption=True) as stack:
        yield stack


def timeline(client: httpx.Client, job_id: str) -> dict[str, Any]:
    response = client.get(f"/jobs/{job_id}/timeline")
    assert response.status_code == 200, response.text
    return dict(response.json()["data"])


def words(found: dict[str, Any]) -> list[str]:
    return [entry["what"] for entry in found["timeline"] if entry["what"] != "batch"]


def begun(stream: Stream) -> Stream:
    eventually(lambda: len(stream.ids) > 4, "it runs")
    return stream


def test_an_undisturbed_job(stack: Stack, client: httpx.Client) -> None:
    stream = chat(stack, max_tokens=20).join()
    found = timeline(client, stream.job_id)
    assert (found["status"], words(found)) == ("completed", ["queued", "claimed", "first_token", "completed"])
    queued, claimed, first, _ = (entry for entry in found["timeline"] if entry["what"] != "batch")
    assert (queued["position"], claimed["behind_tokens"], claimed["model"], first["batch"]) == (1, 0, "fake", 1)
    assert claimed["worker"] == stack.replica().incarnation
    assert [entry["after_s"] for entry in found["timeline"]] == sorted(entry["after_s"] for entry in found["timeline"])
    assert found["first_token_s"] >= found["waited_s"] >= 0
    job = client.get(f"/jobs/{stream.job_id}").json()["data"]
    assert found["prompt_tokens"] == job["usage"]["prompt_tokens"]
    assert (found["paused_s"], found["replayed_tokens"]) == (0, 0)
    assert found["elapsed_s"] == found["timeline"][-1]["after_s"]


@pytest.mark.parametrize(("victim", "causes"), [("engine", ("crashed", "lost")), ("worker", ("lost",))])
def test_a_killed_job(stack: Stack, client: httpx.Client, victim: str, causes: tuple[str, ...]) -> None:
    stream = begun(chat(stack, max_tokens=200))
    during = timeline(client, stream.job_id)
    assert (during["status"], words(during)) == ("in_progress", ["queued", "claimed", "first_token"])
    assert during["prompt_tokens"] > 0
    assert during["elapsed_s"] > during["first_token_s"]
    replica = stack.replica()
    psutil.Process(replica.engine_pid if victim == "engine" else replica.pid).kill()
    eventually(lambda: timeline(client, stream.job_id)["paused_s"] > 0, "it stands still")
    stream.join()
    found = timeline(client, stream.job_id)
    again = ["interrupted", "claimed", "first_token", "completed"]
    assert words(found) == ["queued", "claimed", "first_token", *again]
    interrupted, claimed, *_ = [entry for entry in found["timeline"] if entry["what"] != "batch"][3:]
    assert interrupted["cause"] in causes
    assert interrupted["tokens"] == claimed["behind_tokens"] == found["replayed_tokens"] > 4
    first = [entry for entry in found["timeline"] if entry["what"] == "first_token"][1]
    stood_still = first["after_s"] - interrupted["after_s"] + interrupted["silent_s"]
    assert found["paused_s"] == pytest.approx(stood_still, abs=0.01)
    assert 0 <= interrupted["silent_s"] < interrupted["after_s"]
    eventually(lambda: stack.replica().status == "active", "it serves again")


def test_a_job_that_is_preempted_and_one_that_is_cancelled(stack: Stack, client: httpx.Client) -> None:
    background = [chat(stack, max_tokens=300, priority="background") for _ in range(2)]
    for stream in background:
        begun(stream)
    wanted = begun(chat(stack, max_tokens=100))
    eventually(lambda: any("interrupted" in words(timeline(client, one.job_id)) for one in background), "one gave way")
    client.delete(f"/jobs/{wanted.job_id}")
    for stream in (wanted, *background):
        stream.join()
    assert words(timeline(client, wanted.job_id))[-1] == "cancelled"
    histories = [timeline(client, one.job_id) for one in background]
    causes = [entry["cause"] for found in histories for entry in found["timeline"] if entry["what"] == "interrupted"]
    assert "preempted" in causes
    assert all(found["status"] == "completed" for found in histories)
    sizes = [entry["batch"] for found in histories for entry in found["timeline"] if "batch" in entry]
    assert {1, 2} >= set(sizes)
    assert 2 in sizes


def test_it_is_kept_as_long_as_the_job_and_holds_nothing_of_it(stack: Stack, client: httpx.Client) -> None:
    stream = chat(stack, content="nobody may read this", max_tokens=5).join()
    raw = " ".join(stack.redis.lrange(keys.timeline(stream.job_id), 0, -1))
    assert "nobody" not in raw
    assert stream.text.split()[0] not in raw
    lives = [stack.redis.pttl(key) for key in (keys.job(stream.job_id), keys.timeline(stream.job_id))]
    assert 0 < lives[0] - lives[1] + 1000 < 2000
    other = client.post("/keys", json={"name": "other", "scopes": ["inference"]}).json()["data"]["secret"]
    with stack.client(other) as theirs:
        assert theirs.get(f"/jobs/{stream.job_id}/timeline").status_code == 404
    assert client.get("/jobs/chatcmpl-none/timeline").status_code == 404


def test_garbage_in_it_is_left_out(stack: Stack, client: httpx.Client) -> None:
    stream = chat(stack, max_tokens=5).join()
    times = [f'{{"at":{at},"what":"claimed"}}' for at in ("1e300", 10**17, -(10**17), "true", '"7"')]
    for junk in ("", "no json", "[1]", '{"at":"x"}', '{"at":1}', "7", *times):
        stack.redis.rpush(keys.timeline(stream.job_id), junk)
    assert words(timeline(client, stream.job_id)) == ["queued", "claimed", "first_token", "completed"]


def test_a_number_in_it_that_can_not_be_counts_as_none(stack: Stack, client: httpx.Client) -> None:
    stream = chat(stack, max_tokens=5).join()
    before = timeline(client, stream.job_id)
    stack.redis.rpush(keys.timeline(stream.job_id), '{"at":5,"what":"claimed","behind_tokens":1e308}')
    stack.redis.rpush(keys.timeline(stream.job_id), '{"at":5,"what":"claimed","behind_tokens":[]}')
    assert timeline(client, stream.job_id)["replayed_tokens"] == 0
    stack.redis.rpush(keys.timeline(stream.job_id), '{"at":5,"what":"interrupted","silent_s":1e308}')
    assert len(timeline(client, stream.job_id)["timeline"]) == len(before["timeline"]) + 3


def test_the_same_is_asked_again(stack: Stack, client: httpx.Client) -> None:
    stream = chat(stack, content="once more", max_tokens=7).join()
    response = client.post(f"/jobs/{stream.job_id}/replay")
    assert response.status_code == 202, response.text
    again = response.json()["data"]["job_id"]
    assert again != stream.job_id
    assert response.headers["Location"] == f"/jobs/{again}"
    job = eventually(lambda: _ended(client, again), "it has ended")
    assert (job["status"], job["priority"], job["usage"]["completion_tokens"]) == ("completed", "background", 7)


def test_a_replay_that_is_sent_again_is_one_job(stack: Stack, client: httpx.Client) -> None:
    stream = chat(stack, max_tokens=3).join()
    path, headers = f"/jobs/{stream.job_id}/replay", {"Idempotency-Key": "once"}
    first, again = (client.post(path, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["data"]["job_id"] == again.json()["data"]["job_id"]
    assert again.headers["Idempotent-Replayed"] == "true"


def test_what_can_not_be_asked_again(stack: Stack, client: httpx.Client) -> None:
    private = chat(stack, max_tokens=3, store=False).join()
    response = client.post(f"/jobs/{private.job_id}/replay")
    assert (response.status_code, "was not kept" in response.json()["message"]) == (422, True)
    assert client.post("/jobs/chatcmpl-none/replay").status_code == 404
    deployed = client.post("/models/local/deploy", json={"model_type": "fake"}).json()["data"]["deployment_id"]
    assert client.post(f"/jobs/{deployed}/replay").status_code == 422


def _ended(client: httpx.Client, job_id: str) -> dict[str, Any] | None:
    job = client.get(f"/jobs/{job_id}").json()["data"]
    return job if job["finished_at"] else None


def test_how_long_nothing_was_heard_of_a_frozen_worker(stack: Stack, client: httpx.Client) -> None:
    """That is noticed when its lease ends: the job has stood still since its last token."""
    stream = begun(chat(stack, max_tokens=100))
    with stopped(stack.replica().pid):
        eventually(lambda: _interruption(timeline(client, stream.job_id)), "it is noticed")
    stream.join()
    found = timeline(client, stream.job_id)
    interrupted = _interruption(found)
    assert interrupted is not None
    assert interrupted["silent_s"] > stack.settings.lease_s / 2
    assert found["paused_s"] >= interrupted["silent_s"]
    assert found["status"] == "completed"


def _interruption(found: dict[str, Any]) -> dict[str, Any] | None:
    return next((entry for entry in found["timeline"] if entry["what"] == "interrupted"), None)
