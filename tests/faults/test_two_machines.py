"""Two machines with networks of their own: one joins by a token, both serve a model, one dies, the other is drained.

The commands are those of docs/machines.md.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.homes import Home, new_home
from tests.networks import Network, two_networks
from tests.stack import PATIENCE_S, eventually, free_port, processes_of

MODEL = "shared"
TABLE = f"""
[models.{MODEL}]
capabilities = ["chat", "completion"]
engine = "fake"
context_length = 4096
max_tokens = 4096
options = {{ step_s = 0.02 }}
"""


@dataclass
class Machine:
    """A machine with its data folder and network."""

    home: Home
    network: Network

    def headrace(self, *args: str, **environ: str) -> str:
        """What a command says that must succeed."""
        result = self.home.command(*args, **environ)
        assert result.returncode == 0, f"{args}: {result.stdout}"
        return result.stdout

    def kill(self) -> None:
        """`kill -9` of everything that runs there."""
        found = processes_of(self.home.data)
        assert len(found) > 2
        for process in found:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()


def machine(folder: Path, network: Network, name: str) -> Machine:
    folder.mkdir()
    home = new_home(folder)
    config = folder / "headrace.toml"
    config.write_text("")
    home.environ |= {"HEADRACE_NODE": name, "HEADRACE_CONFIG": str(config), "HEADRACE_DEMO_MODEL": ""}
    home.environ["HEADRACE_MODELS_JSON"] = ""
    home.inside = network.inside
    return Machine(home, network)


@pytest.fixture
def machines(tmp_path: Path) -> Iterator[tuple[Machine, Machine]]:
    """The head, which runs and listens, and another machine, which has not joined."""
    with two_networks() as (first, second):
        head, other = machine(tmp_path / "a", first, "head"), machine(tmp_path / "b", second, "worker-02")
        head.home.environ |= {"HEADRACE_LISTEN": f"{first.address}:{free_port()}", "HEADRACE_LEASE_S": "2"}
        try:
            head.headrace("up", "--detach")
            yield head, other
        finally:
            for one in (other, head):
                one.home.command("down")
            assert processes_of(head.home.data) == processes_of(other.home.data) == []


@dataclass
class Api:
    """The head's API, from its own network."""

    client: httpx.Client

    def data(self, path: str) -> Any:
        """What is there."""
        return self.client.get(path).raise_for_status().json()["data"]

    def state(self, node: str) -> str:
        """Of a node; empty if there is none."""
        response = self.client.get(f"/nodes/{node}")
        return str(response.json()["data"]["state"]) if response.is_success else ""

    def serving(self) -> list[str]:
        """The nodes whose replicas of the model are healthy."""
        found = {one["id"]: one["replicas"] for one in self.data("/models/local")["models"]}.get(MODEL, [])
        return sorted(one["node_id"] for one in found if one["health"] == "healthy")

    def ask(self) -> str:
        """An answer of some tokens; the request must succeed."""
        body = {"prompt": "hello", "max_tokens": 40}
        response = self.client.post(f"/models/{MODEL}/completions", json=body)
        assert response.status_code == 200, response.text
        (choice,) = response.json()["data"]["choices"]
        assert choice["finish_reason"] == "length"
        return str(choice["text"])


@contextlib.contextmanager
def api(head: Machine) -> Iterator[Api]:
    key = Path(head.home.data, "keys", "bootstrap").read_text().strip()
    url = f"http://127.0.0.1:{head.home.environ['HEADRACE_HTTP_PORT']}"
    headers = {"Authorization": f"Bearer {key}"}
    with head.network.entered(), httpx.Client(base_url=url, headers=headers, timeout=2 * PATIENCE_S) as client:
        yield Api(client)


@contextlib.contextmanager
def load(found: Api, clients: int = 4) -> Iterator[list[str]]:
    """Clients that ask again and again until the end of the block; each of their requests must succeed."""
    stop, answers, failures = threading.Event(), list[str](), list[BaseException]()

    def run() -> None:
        while not stop.is_set():
            try:
                answers.append(found.ask())
            except BaseException as error:
                failures.append(error)
                return

    threads = [threading.Thread(target=run) for _ in range(clients)]
    for thread in threads:
        thread.start()
    try:
        eventually(lambda: len(answers) > clients or failures, "answers come")
        yield answers
        before = len(answers)
        eventually(lambda: len(answers) > before + clients or failures, "answers go on")
    finally:
        stop.set()
        for thread in threads:
            thread.join(PATIENCE_S)
    assert failures == []


def test_one_machine_joins_another_and_either_may_go(machines: tuple[Machine, Machine]) -> None:
    head, other = machines
    # Token, join.
    command = head.headrace("token", "create", "--ttl", "1h").splitlines()[0].split()
    assert command[:2] == ["headrace", "join"]
    assert "worker-02.cpu0 takes models" in other.headrace(*command[1:], "--label", "rack=7", "--detach")
    settings = json.loads(Path(other.home.data, "joined.json").read_text())["settings"]
    assert settings["lease_s"] == "2.0"
    with api(head) as found:
        node = found.data("/nodes/worker-02")
        assert (node["state"], node["labels"]) == ("ready", {"rack": "7"})
        assert node["address"] == other.network.address
        # A model that is added on the head is served by both.
        Path(head.home.environ["HEADRACE_CONFIG"]).write_text(TABLE)
        head.headrace("deploy", MODEL, "--node", "head", "--node", "label:rack=7")
        eventually(lambda: found.serving() == ["head", "worker-02"], "both serve it")
        with load(found):
            # The listener dies and comes back.
            (listener,) = (p for p in processes_of(head.home.data) if "web.listener" in p.cmdline())
            listener.kill()
            eventually(lambda: "listener process" in " ".join(head.headrace("status").split()), "it is back")
        with load(found):
            # All of the other machine dies. No request fails.
            other.kill()
            eventually(lambda: found.state("worker-02") == "gone", "it is gone")
            eventually(lambda: found.serving() == ["head"], "its replica is gone")
        # It comes back with what it was given.
        other.headrace("join", "--detach")
        eventually(lambda: found.serving() == ["head", "worker-02"], "both serve it again")
        with load(found):
            said = head.headrace("nodes", "drain", "head")
            assert "head: empty" in said
            assert found.state("head") == "cordoned"
            assert found.serving() == ["worker-02", "worker-02"]
