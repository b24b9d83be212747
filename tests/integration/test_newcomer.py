"""Under a plain `headrace up`, what is installed answers: nobody has deployed anything but the demo."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.homes import Home, new_home

#: How long `headrace up` may take, and a real model to load.
UP_S, LOAD_S = 120.0, 180.0


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    home = new_home(tmp_path_factory.mktemp("newcomer"))
    process = home.start("up")
    deadline = time.monotonic() + UP_S
    while "Ctrl-C ends everything" not in home.said:
        assert process.poll() is None, home.said
        assert time.monotonic() < deadline, home.said
        time.sleep(0.1)
    yield home
    process.terminate()
    process.wait(UP_S)


@pytest.fixture(scope="module")
def client(home: Home) -> Iterator[httpx.Client]:
    key = Path(home.data, "keys", "bootstrap").read_text().strip()
    url = f"http://127.0.0.1:{home.environ['HEADRACE_HTTP_PORT']}"
    with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=LOAD_S) as client:
        yield client


def test_embeddings_just_work(client: httpx.Client) -> None:
    listed = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert {"all-minilm-l6-v2", "smollm2-135m"} <= set(listed)
    body = {"model": "all-minilm-l6-v2", "input": ["a water turbine", "a wheel in a river"]}
    answer = client.post("/v1/embeddings", json=body)
    assert answer.status_code == 200, answer.text
    assert [len(one["embedding"]) for one in answer.json()["data"]] == [384, 384]


@pytest.mark.slow
def test_and_so_does_a_chat_with_a_model_that_is_not_the_demo(client: httpx.Client) -> None:
    body = {"messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8, "temperature": 0}
    answer = client.post("/models/smollm2-135m/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["data"]["choices"][0]["message"]["content"]
    both = {model["id"] for model in client.get("/models/local").json()["data"]["models"]}
    assert {"smollm2-135m", "fake"} <= both
