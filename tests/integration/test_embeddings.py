"""Embeddings over a running stack: the real model, compared with the sentence-transformers library."""

from __future__ import annotations

import base64
import os
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from typing import Any

import httpx
import numpy
import openai
import pytest

from gateway.jobs.events import EventType
from gateway.jobs.record import JobState
from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from gateway.store import keys
from tests.stack import KEY, Stack, eventually, running, stopped
from workers.tokenizers.encoder import EncoderTokenizer

MODEL = "all-minilm-l6-v2"
PATH = f"/models/{MODEL}/embeddings"
#: The same, as if it had been trained to have its vectors cut. Its entry says nothing of a context.
SHORTENS = "org/shortens:v1"
#: The issue allows a difference of so much from the library.
TOLERANCE = 1e-3
CATALOG = f"""
[models."{SHORTENS}"]
capabilities = ["embedding"]
engine = "embedding"
source = "{{source}}"
dimensions = 384
shortens_vectors = true
"""
TEXTS = [
    "The headrace feeds the turbine.",
    "这是第一段文本",
    "x",
    "Ça coûte 3,50 € — naïve façade 🙂",
    "def f(x):\n    return x ** 2  # code",
    "A text that says [SEP] and [CLS] in the middle.",
    " spaces   and\ttabs\n\nand lines ",
    "word " * 250,
]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(
        tmp_path_factory.mktemp("s"),
        {MODEL: {}, SHORTENS: {}},
        catalog=CATALOG.format(source=model_path()),
    ) as stack:
        yield stack


@pytest.fixture(scope="module")
def library() -> Any:
    """The same files, loaded by sentence-transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(model_path()), device="cpu")


def model_path() -> Any:
    path = load_catalog(Settings.load({})).get(MODEL).path()
    assert path
    return path


def vectors(response: httpx.Response) -> numpy.ndarray:
    assert response.status_code == 200, response.text
    data = response.json()["data"]
    assert [entry["index"] for entry in data["data"]] == list(range(len(data["data"])))
    return numpy.array([entry["embedding"] for entry in data["data"]], dtype="f4")


def difference(left: numpy.ndarray, right: numpy.ndarray) -> float:
    assert left.shape == right.shape
    return float(numpy.abs(left - right).max())


def numbered(count: int) -> list[str]:
    """Texts of different lengths, all different, in no order of length."""
    return [f"{i} " + "water " * (i * 7 % 6) for i in range(count)]


def test_vectors_are_those_of_the_library(client: httpx.Client, library: Any) -> None:
    got = vectors(client.post(PATH, json={"input": TEXTS}))
    assert difference(got, library.encode(TEXTS)) < TOLERANCE
    assert numpy.allclose(numpy.linalg.norm(got, axis=1), 1, atol=1e-5)


def test_the_documents_request_gets_the_documents_answer(client: httpx.Client) -> None:
    response = client.post(PATH, json={"input": ["这是第一段文本", "这是第二段文本"], "encoding_format": "float"})
    body = response.json()
    assert (body["code"], body["message"], body["request_id"]) == (200, "success", response.headers["X-Request-Id"])
    data = body["data"]
    assert (data["object"], data["model"]) == ("list", MODEL)
    assert [(entry["object"], entry["index"], len(entry["embedding"])) for entry in data["data"]] == [
        ("embedding", 0, 384),
        ("embedding", 1, 384),
    ]
    assert data["usage"] == {"prompt_tokens": 18, "total_tokens": 18}
    assert response.headers["X-Job-Id"].startswith("embd-")


def test_a_text_alone_and_token_ids_give_the_same_vectors(client: httpx.Client) -> None:
    tokenizer = EncoderTokenizer(model_path())
    plain = tokenizer.encode(TEXTS[:2])
    expected = vectors(client.post(PATH, json={"input": TEXTS[:2]}))
    alone = vectors(client.post(PATH, json={"input": TEXTS[0]}))
    lists = vectors(client.post(PATH, json={"input": [plain[0], tokenizer.wrap(plain[1])]}))
    one_list = vectors(client.post(PATH, json={"input": plain[1]}))
    assert difference(alone, expected[:1]) < 1e-5
    assert difference(lists, expected) < 1e-5
    assert difference(one_list, expected[1:]) < 1e-5


def test_base64_holds_the_same_numbers(client: httpx.Client) -> None:
    expected = vectors(client.post(PATH, json={"input": TEXTS[:3]}))
    data = client.post(PATH, json={"input": TEXTS[:3], "encoding_format": "base64"}).json()["data"]["data"]
    got = numpy.array([numpy.frombuffer(base64.b64decode(entry["embedding"]), "<f4") for entry in data])
    assert difference(got, expected) < 1e-6


@pytest.mark.slow
def test_2048_inputs_come_back_in_their_order(client: httpx.Client, stack: Stack, library: Any) -> None:
    texts = numbered(2048)
    response = client.post(PATH, json={"input": texts, "user": "u"})
    got = vectors(response)
    picked = [0, 1, 22, 23, 1000, 1337, 2046, 2047]
    assert got.shape == (2048, 384)
    assert difference(got[picked], library.encode([texts[i] for i in picked])) < TOLERANCE
    job_id = response.headers["X-Job-Id"]
    assert stack.redis.strlen(keys.vectors(job_id)) == 2048 * 384 * 4
    assert 0 < stack.redis.pttl(keys.vectors(job_id)) <= stack.settings.job_ttl_s * 1000
    steps = [event for event in stack.journal(job_id) if event.type is EventType.VECTORS]
    assert sorted(i for event in steps for i in event.body["done"]) == list(range(2048))


def test_concurrent_small_calls_share_a_forward_pass(stack: Stack, library: Any) -> None:
    """The engine is asleep while 16 calls arrive, and counts its steps when it is awake again."""
    texts = [f"small call number {i}" for i in range(16)]
    got: dict[int, numpy.ndarray] = {}

    def call(i: int) -> None:
        with stack.client() as client:
            got[i] = vectors(client.post(PATH, json={"input": texts[i]}))[0]

    replica = idle(stack)
    with stopped(replica.engine_pid):
        threads = [threading.Thread(target=call, args=(i,)) for i in range(16)]
        for thread in threads:
            thread.start()
        eventually(lambda: len(stack.running()) == 16, "all calls are in the engine")
        time.sleep(0.5)  # a claim is seen before its sequence is in the engine's socket
    for thread in threads:
        thread.join(60)
    assert difference(numpy.array([got[i] for i in range(16)]), library.encode(texts)) < TOLERANCE
    assert idle(stack).steps - replica.steps < 8


def test_a_small_call_does_not_wait_for_a_large_one(client: httpx.Client, stack: Stack) -> None:
    large = client.post(PATH, json={"input": ["water " * 120] * 400}, headers={"Prefer": "respond-async"})
    job_id = large.json()["data"]["job_id"]
    eventually(lambda: len(stack.journal(job_id)) > 1, "the large one runs")
    vectors(client.post(PATH, json={"input": "small"}))
    job = stack.store.read(job_id)
    assert job is not None
    assert job.state is JobState.RUNNING
    client.delete(f"/jobs/{job_id}")


def test_cancelling_empties_the_engine(client: httpx.Client, stack: Stack) -> None:
    response = client.post(PATH, json={"input": ["water " * 120] * 400}, headers={"Prefer": "respond-async"})
    job_id = response.json()["data"]["job_id"]
    eventually(lambda: len(stack.journal(job_id)) > 1, "it runs")
    client.delete(f"/jobs/{job_id}")
    eventually(lambda: client.get(f"/jobs/{job_id}").json()["data"]["status"] == "cancelled", "it is cancelled")
    assert client.get(f"/jobs/{job_id}").json()["data"]["result"]["data"] == []
    assert stack.redis.exists(keys.vectors(job_id)) == 0
    assert idle(stack).sequences == 0


def idle(stack: Stack) -> Any:
    """The replica, when a heartbeat says that nothing runs."""

    def look() -> Any:
        replica = stack.replica(MODEL)
        return replica if not stack.running() and not replica.sequences else None

    time.sleep(2 * stack.settings.lease_s / 5)  # what the next heartbeats say is of now
    return eventually(look, "the engine is idle")


def test_a_background_job_gives_the_result_and_tells_of_progress(client: httpx.Client, library: Any) -> None:
    response = client.post(PATH, json={"input": TEXTS}, headers={"Prefer": "respond-async"})
    assert response.status_code == 202
    job_id = response.json()["data"]["job_id"]
    with client.stream("GET", f"/jobs/{job_id}/events") as stream:
        chunks = [httpx.Response(200, content=line[6:]).json() for line in stream.iter_lines() if line[:7] == "data: {"]
    assert {chunk["object"] for chunk in chunks} == {"embedding.progress"}
    assert sorted(i for chunk in chunks for i in chunk["done"]) == list(range(len(TEXTS)))
    job = client.get(f"/jobs/{job_id}").json()["data"]
    assert (job["status"], job["kind"]) == ("completed", "embedding")
    assert job["usage"] == job["result"]["usage"] == chunks[-1]["usage"]
    got = numpy.array([entry["embedding"] for entry in job["result"]["data"]], dtype="f4")
    assert difference(got, library.encode(TEXTS)) < TOLERANCE


@pytest.mark.parametrize(
    ("body", "place", "says"),
    [
        ({}, "input", "Missing"),
        ({"input": ""}, "input", "Got ''"),
        ({"input": []}, "input", "Got []"),
        ({"input": None}, "input", ""),
        ({"input": {"a": 1}}, "input", "must be a text"),
        ({"input": ["a", ""]}, "input[1]", "empty"),
        ({"input": ["a", 1]}, "input[1]", "must be text"),
        ({"input": ["a", [1]]}, "input[1]", "must be text"),
        ({"input": [1, "a"]}, "input", "Holds 'a'"),
        ({"input": [1, True]}, "input", "Holds True"),
        ({"input": [-1]}, "input", "Holds -1"),
        ({"input": [5, 2**63]}, "input", "Holds 9223372036854775808"),
        ({"input": [[1], []]}, "input[1]", "Got []"),
        ({"input": [[1], [1.5]]}, "input[1]", "Holds 1.5"),
        ({"input": [[[1]]]}, "input[0]", "Holds [1]"),
        ({"input": ["a"] * 2049}, "input", "at most 2048"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format", "float, base64"),
        ({"input": "a", "dimensions": 100}, "dimensions", "384"),
        ({"input": "a", "dimensions": 0}, "dimensions", "Got 0"),
        ({"input": "a", "truncate": "yes"}, "truncate", "true or false"),
        ({"input": "a", "max_tokens": 1}, "max_tokens", "Unknown field"),
    ],
)
def test_a_bad_request_names_its_field(client: httpx.Client, body: dict[str, Any], place: str, says: str) -> None:
    response = client.post(PATH, json=body)
    assert response.status_code == 422
    assert says in " ".join(response.json()["data"]["errors"][place])


def test_a_token_id_outside_the_vocabulary_is_named(client: httpx.Client) -> None:
    response = client.post(PATH, json={"input": [[5], [30522]]})
    assert response.status_code == 422
    assert response.json()["message"] == "input[1]: It holds the token id 30522; allowed: 0 to 30521."
    assert vectors(client.post(PATH, json={"input": [[5], [30521]]})).shape == (2, 384)


def test_an_input_that_is_too_long_is_named_or_cut(client: httpx.Client, library: Any) -> None:
    texts = ["short", "word " * 300]
    response = client.post(PATH, json={"input": texts})
    assert response.status_code == 422
    assert response.json()["data"]["reason"] == "context_length_exceeded"
    assert response.json()["message"].startswith("input[1] has 302 tokens")
    assert "256" in response.json()["message"]
    cut = client.post(PATH, json={"input": texts, "truncate": True})
    assert difference(vectors(cut), library.encode(texts)) < TOLERANCE
    assert cut.json()["data"]["usage"]["prompt_tokens"] == 3 + 256


def test_an_input_is_cut_where_the_model_says_if_its_entry_says_nothing(client: httpx.Client, library: Any) -> None:
    """It has 512 positions, and was trained on 256 tokens: that is where the library cuts."""
    path, texts = f"/models/{SHORTENS}/embeddings", ["word " * 600]
    response = client.post(path, json={"input": texts})
    assert response.status_code == 422
    assert response.json()["message"].startswith(f"input[0] has 602 tokens, but {SHORTENS} takes 256 at most")
    cut = client.post(path, json={"input": texts, "truncate": True})
    assert difference(vectors(cut), library.encode(texts)) < TOLERANCE
    assert cut.json()["data"]["usage"]["prompt_tokens"] == 256


def test_the_models_own_size_may_be_named(client: httpx.Client) -> None:
    assert vectors(client.post(PATH, json={"input": "a", "dimensions": 384})).shape == (1, 384)


def test_a_model_that_can_shorten_its_vectors_does(client: httpx.Client, library: Any) -> None:
    path = f"/models/{SHORTENS}/embeddings"
    whole = library.encode(TEXTS)
    cut = whole[:, :64] / numpy.linalg.norm(whole[:, :64], axis=1, keepdims=True)
    assert difference(vectors(client.post(path, json={"input": TEXTS, "dimensions": 64})), cut) < TOLERANCE
    response = client.post(path, json={"input": TEXTS, "dimensions": 385})
    assert response.status_code == 422
    assert "384" in response.json()["data"]["errors"]["dimensions"][0]


def test_the_openai_client_gets_the_same_vectors(stack: Stack, client: httpx.Client) -> None:
    """It asks for base64 by itself."""
    expected = vectors(client.post(PATH, json={"input": TEXTS[:3]}))
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key=KEY, max_retries=0) as sdk:
        answer = sdk.embeddings.create(model=MODEL, input=TEXTS[:3])
        with pytest.raises(openai.BadRequestError, match="Must not be empty"):
            sdk.embeddings.create(model=MODEL, input=["a", ""])
    got = numpy.array([entry.embedding for entry in answer.data], dtype="f4")
    assert difference(got, expected) < 1e-6
    assert (answer.object, answer.model, answer.usage.total_tokens) == ("list", MODEL, answer.usage.prompt_tokens)


def test_each_model_does_only_what_it_can(client: httpx.Client) -> None:
    wrong = client.post("/models/fake/embeddings", json={"input": "a"})
    assert (wrong.status_code, wrong.json()["data"]["reason"]) == (422, "capability_not_supported")
    chat = {"messages": [{"role": "user", "content": "hi"}]}
    wrong = client.post(f"/models/{MODEL}/chat/completions", json=chat)
    assert (wrong.status_code, wrong.json()["data"]["reason"]) == (422, "capability_not_supported")


@pytest.mark.parametrize("victim", ["engine_pid", pytest.param("pid", marks=pytest.mark.slow)])
def test_a_killed_job_goes_on_where_it_was(stack: Stack, library: Any, victim: str) -> None:
    """`pid` is the model worker: its engine ends with it. No vector is made twice, none is missing."""
    texts = [f"{i} " + "water " * 60 for i in range(120)]
    answers: list[httpx.Response] = []

    def call() -> None:
        with stack.client() as client:
            answers.append(client.post(PATH, json={"input": texts}))

    before = idle(stack)
    thread = threading.Thread(target=call)
    thread.start()
    job_id = eventually(stack.running, "it runs")[0]
    eventually(lambda: len(stack.journal(job_id)) > 2, "some vectors are there")
    os.kill(getattr(before, victim), signal.SIGKILL)
    thread.join(120)
    assert difference(vectors(answers[0]), library.encode(texts)) < TOLERANCE
    job, events = stack.store.read(job_id), stack.journal(job_id)
    assert job is not None
    assert job.attempts == 2
    assert [event.type for event in events if event.type is not EventType.VECTORS] == [
        EventType.STARTED,
        EventType.RESUMED,
        EventType.DONE,
    ]
    made = [event.body["done"] for event in events if event.type is EventType.VECTORS]
    assert len({event.claim for event in events}) == 2
    assert sorted(i for done in made for i in done) == list(range(len(texts)))
    assert dict(job.usage) == {"prompt_tokens": job.usage["total_tokens"], "total_tokens": job.usage["total_tokens"]}
