"""A worker's container: what `docker stop`, or the end of a pod, does to the requests that it runs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from gateway.cluster.desired import Desired
from gateway.process.locks import lock_holders
from gateway.settings import Settings
from tests.stack import MODULES, PATIENCE_S, REPOSITORY, Stack, Stream, chat, eventually

TOKENS = 150
STEP_S = 0.02


@contextmanager
def contained(folder: Path, **settings: Any) -> Iterator[Stack]:
    """A stack whose agent is in a container's process."""
    with pytest.MonkeyPatch.context() as patch, closing(Stack(folder, grace_s=20.0, **settings)) as stack:
        patch.setitem(MODULES, "agent", MODULES["container"])
        stack.up({"fake": {"step_s": STEP_S}})
        yield stack


@pytest.fixture(scope="module")
def patient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """It gives its requests all the time that they need."""
    with contained(tmp_path_factory.mktemp("c"), shutdown_s=PATIENCE_S) as stack:
        yield stack


def streams(stack: Stack, count: int = 3) -> list[Stream]:
    """Streams in mid-answer."""
    found = [chat(stack, max_tokens=TOKENS, temperature=0) for _ in range(count)]
    eventually(lambda: all(len(stream.ids) > 10 for stream in found), "all streams run")
    return found


def attempts(stack: Stack, found: list[Stream]) -> list[int]:
    return [job.epoch for job in stack.store.read_many([one.job_id for one in found]) if job]


def agents(stack: Stack) -> list[psutil.Process]:
    """The agents among the container's children."""
    found = []
    for child in psutil.Process(stack.processes["agent"].pid).children():
        with suppress(psutil.NoSuchProcess):
            found += [child] if "workers.agent" in child.cmdline() else []
    return found


def test_running_answers_end_before_it_does(patient: Stack) -> None:
    running = streams(patient)
    workers = psutil.Process(patient.processes["agent"].pid).children(recursive=True)
    patient.kill("agent", signal.SIGTERM)
    assert patient.processes["agent"].returncode == 0
    assert not [one for one in workers if one.is_running() and one.status() != psutil.STATUS_ZOMBIE]
    assert not [name for name in lock_holders(patient.folder) if "fake" in name]
    assert [stream.join().finish_reason for stream in running] == ["length"] * len(running)
    assert attempts(patient, running) == [1] * len(running)
    patient.start("agent")  # what is deployed comes back with the next container
    patient.wait_active(1)
    assert chat(patient, max_tokens=3).join().finish_reason == "length"


def test_an_agent_that_was_killed_is_started_again_beside_its_model_workers(patient: Stack) -> None:
    running, before = streams(patient), patient.replica()
    (agent,) = agents(patient)
    agent.kill()
    eventually(lambda: [one for one in agents(patient) if one.pid != agent.pid], "it is back")
    for stream in running:
        stream.join()
    assert attempts(patient, running) == [1] * len(running)
    assert patient.replica().pid == before.pid
    os.kill(before.pid, signal.SIGKILL)  # an orphan of the first agent: the container reaps it
    eventually(lambda: patient.replica().pid != before.pid, "the next agent has started another")
    eventually(lambda: not psutil.pid_exists(before.pid), "it is reaped")


def test_answers_that_take_longer_go_on_in_the_next_container(tmp_path: Path) -> None:
    with contained(tmp_path, shutdown_s=0.5) as stack:
        running = streams(stack)
        stack.kill("agent", signal.SIGTERM)
        late = chat(stack, max_tokens=5, temperature=0)
        stack.start("agent")
        for stream in [*running, late]:
            assert stream.join().finish_reason == "length"
        assert attempts(stack, [*running, late]) == [2] * len(running) + [1]
        assert [job.crashes for job in stack.store.read_many([one.job_id for one in running]) if job] == [0] * 3
        assert all(len(stream.text.split()) == TOKENS for stream in running)


def test_a_pool_that_grows_serves_its_models_by_itself(patient: Stack) -> None:
    """The next pod of a pool: a node that has never been there, and for which nobody has deployed anything."""
    settings = replace(
        patient.settings, node="n2", data_dir=patient.folder / "n2", resident_models="fake, unheard-of", log_files=False
    )
    with started(patient, settings):
        _check_growth(patient)
    with started(patient, settings):
        patient.wait_active(2)


@contextmanager
def started(stack: Stack, settings: Settings) -> Iterator[None]:
    """A second container, until the end of the block."""
    stack.start("container-2", settings=settings)
    try:
        yield
    finally:
        stack.kill("container-2", signal.SIGTERM)


def _check_growth(patient: Stack) -> None:
    patient.wait_active(2)
    assert {replica.node for replica in patient.registry.replicas("fake")} == {"n1", "n2"}
    log = (patient.folder / "logs" / "container-2.log").read_text()
    assert log.count("HEADRACE_RESIDENT_MODELS names 'unheard-of'; the catalog has no such local model yet") == 1
    assert "fake@n2.cpu0" in log, "its model worker's log is the container's"
    (spec,) = Desired(patient.redis).on("n2", "cpu0").values()
    assert spec
    Desired(patient.redis).drop([spec])  # unloaded, until its agent starts again
    eventually(lambda: not [one for one in patient.registry.replicas("fake") if one.node == "n2"], "it is gone")


def test_a_container_whose_agent_can_not_begin_ends_with_its_status(patient: Stack, tmp_path: Path) -> None:
    """Whoever runs it starts it again, and shows that it does so again and again."""
    environ = {**os.environ, **patient.settings.environ(), "HEADRACE_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", MODULES["container"]],
        cwd=REPOSITORY,
        env=environ,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 1
    assert "an agent for n1.cpu0 runs on another machine" in done.stderr
