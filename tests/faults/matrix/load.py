"""Clients of every face, each in a thread, that retry and resume as good clients do, and note what they saw."""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import httpx
import numpy

from tests.faults.matrix.rig import EMBEDDER, MANY, PACE_S, World
from tests.stack import KEY
from tests.upstreams.base import answer
from workers.engines.fake import fake_token

#: A client gives up after so long.
PATIENCE_S = 150.0
#: Pause before a request is sent again.
RETRY_S = 0.2
#: Vectors may differ by so much from those of a quiet system: what else is in the batch moves the last bits.
TOLERANCE = 1e-3
#: A job that has failed gives the same answer for ever to who asks with its idempotency key.
SAME_ERRORS = 5
#: States of a job that has ended otherwise than well.
BAD_ENDS = ("failed", "cancelled")


class Client:
    """One request, from the first try to its end."""

    #: It follows its answer token by token.
    streams = True

    def __init__(self, world: World, key: str, *, model: str = "fake", tokens: int = 0, n: int = 1) -> None:
        self.world, self.key, self.model, self.tokens, self.n = world, key, model, tokens, n
        self._job_id = ""
        #: When it sent the request by which its job was accepted, and when it was told.
        self.asked_at = self.accepted_at = 0.0
        self.texts: dict[int, str] = defaultdict(str)
        self.finishes: dict[int, str] = {}
        #: When text came, and the seq of each event.
        self.times: list[float] = []
        self.seqs: list[int] = []
        self.rewound = 0
        self.ended = False
        #: Why the answer is not what was asked for; empty if it is.
        self.error = ""
        #: What went wrong on the way, and was tried again.
        self.troubles: list[str] = []
        self.prompt = "water"
        self.mark = secrets.token_hex(8)
        self._turn_at = 0.0
        self._left = threading.Event()
        self.thread = threading.Thread(target=self._run, name=type(self).__name__, daemon=True)

    @property
    def job_id(self) -> str:
        """The job's id, once it is accepted."""
        return self._job_id

    @job_id.setter
    def job_id(self, job_id: str) -> None:
        if job_id and not self._job_id:
            self.asked_at, self.accepted_at = self._turn_at, time.monotonic()
        self._job_id = job_id

    def start(self) -> Client:
        """Send the request."""
        self.thread.start()
        return self

    def leave(self) -> None:
        """Try no more."""
        self._left.set()

    @property
    def begun(self) -> bool:
        """In the middle of its answer, or accepted if it does not follow it."""
        return self.ended or (len(self.times) > 5 if self.streams else bool(self.job_id))

    def oracle(self, choice: int) -> str:
        """The whole text of a choice."""
        if self.model != "fake":
            return answer(self.tokens)
        return "".join(f" w{fake_token(f'{self.job_id}/{choice}', i)}" for i in range(self.tokens))

    def _run(self) -> None:
        until = time.monotonic() + PATIENCE_S
        while not self.ended and not self._left.is_set() and time.monotonic() < until:
            self._turn_at = time.monotonic()
            try:
                self._turn()
            except Exception as error:  # whatever it is, it goes into the report
                self._note(type(error).__name__)
            if not self.ended:
                self._left.wait(RETRY_S)

    def _turn(self) -> None:
        """One request on the way: it sets `ended`, or leaves the rest to the next one."""
        raise NotImplementedError

    def _note(self, trouble: str) -> None:
        self.troubles.append(trouble)

    def _fail(self, reason: str) -> None:
        self.error, self.ended = reason, True

    def _take(self, choice: int, text: str, finish: str | None) -> None:
        if text:
            self.texts[choice] += text
            self.times.append(time.monotonic())
        if finish:
            self.finishes[choice] = finish


@cache
def _ssl() -> Any:
    """Made once: it takes longer than a request."""
    return httpx.create_ssl_context()


class RestClient(Client):
    """Over HTTP."""

    path = "/models/{model}/chat/completions"
    stream = False
    headers: Mapping[str, str] = {}
    #: With an idempotency key: it may send the request again without making a second job.
    marked = True

    def _run(self) -> None:
        bearer = {"Authorization": f"Bearer {self.key}"}
        with httpx.Client(base_url=self.world.stack.url, headers=bearer, timeout=60, verify=_ssl()) as self.http:
            super()._run()

    def body(self) -> dict[str, Any]:
        """The request."""
        body: dict[str, Any] = {"messages": [{"role": "user", "content": self.prompt}], "stream": self.stream}
        if self.path.startswith("/v1/"):
            body["model"] = self.model
        # How long a remote answer is its server says, see `Load.mixed`.
        body["max_tokens"] = self.tokens if self.model == "fake" else MANY
        return body | ({"n": self.n} if self.n > 1 else {})

    def _post(self) -> Any:
        """The request as httpx's arguments."""
        marks = {"Idempotency-Key": self.mark} if self.marked else {}
        headers = {**self.headers, **marks}
        return {"url": self.path.format(model=self.model), "json": self.body(), "headers": headers}

    def _refused(self, response: httpx.Response) -> None:
        """What is not this client's fault is tried again."""
        status = response.status_code
        self._note(f"{status} {_reason(response)}")
        if status == 500 and self.troubles.count(self.troubles[-1]) > SAME_ERRORS:
            self._fail(self.troubles[-1])
        elif status == 429 or status >= 500:
            self._left.wait(min(2.0, float(response.headers.get("Retry-After", 0))))
        else:
            self._fail(f"{status} {_reason(response)}")

    def _look(self) -> dict[str, Any] | None:
        """The job, if it has ended."""
        response = self.http.get(f"/jobs/{self.job_id}")
        if response.status_code != 200:
            self._refused(response)
            return None
        job = response.json()["data"]
        if job["status"] in BAD_ENDS:
            self._fail(_why(job))
        return dict(job) if job["status"] in (*BAD_ENDS, "completed") else None


class RestStream(RestClient):
    """Server-sent events; goes on by `Last-Event-ID`."""

    stream = True

    def __init__(self, *args: Any, marked: bool = False, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.marked = marked
        self.cursor = ""

    def _turn(self) -> None:
        if self.job_id:
            headers = {"Last-Event-ID": self.cursor} if self.cursor else {}
            request = self.http.stream("GET", f"/jobs/{self.job_id}/events", headers=headers)
        else:
            request = self.http.stream("POST", **self._post())
        with request as response:
            if response.status_code != 200:
                response.read()
                self._refused(response)
                return
            self.job_id = response.headers["X-Job-Id"]
            self._follow(response.iter_lines())
        if not self.ended:
            self._note("cut")

    def _follow(self, lines: Iterator[str]) -> None:
        kind = ""
        for line in lines:
            name, _, value = line.partition(": ")
            if self._left.is_set():
                return
            if name == "id":
                self.cursor = value
                self.seqs.append(int(value.split("-")[0]))
            elif name == "event":
                kind = value
            elif name == "data" and value == "[DONE]":
                self.ended = True
                return
            elif name == "data" and (kind == "error" or value.startswith('{"error"')):
                self._on_error(json.loads(value))
                return
            elif name == "data":
                self._on_chunk(json.loads(value))

    def _on_error(self, body: Mapping[str, Any]) -> None:
        """An error is the end only if the job's record says so."""
        self._note(f"event {(body.get('data') or body.get('error') or {}).get('reason') or body}"[:80])
        self._look()

    def _on_chunk(self, chunk: Mapping[str, Any]) -> None:
        if "rewound" in chunk:
            self.rewound += 1
            self.texts = defaultdict(str, {int(i): text for i, text in chunk["rewound"]["text"].items()})
        for choice in chunk["choices"]:
            text = choice.get("text") or choice.get("delta", {}).get("content") or ""
            self._take(choice["index"], text, choice["finish_reason"])


class V1Stream(RestStream):
    """On OpenAI's path."""

    path = "/v1/chat/completions"


class Plain(RestClient):
    """One answer, without a stream."""

    streams = False

    def _turn(self) -> None:
        response = self.http.post(**self._post())
        self.job_id = response.headers.get("X-Job-Id", self.job_id)
        if response.status_code != 200:
            self._refused(response)
            return
        body = response.json()
        self._whole(body if self.path.startswith("/v1/") else body["data"])

    def _whole(self, result: Mapping[str, Any]) -> None:
        for choice in result["choices"]:
            self._take(choice["index"], choice["message"]["content"], choice["finish_reason"])
        self.ended = True

    @property
    def begun(self) -> bool:
        return True  # nobody can see from outside


class V1Plain(Plain):
    """On OpenAI's path."""

    path = "/v1/chat/completions"


class Background(Plain):
    """A job that is polled."""

    headers: Mapping[str, str] = {"Prefer": "respond-async"}

    def _turn(self) -> None:
        if not self.job_id:
            response = self.http.post(**self._post())
            if response.status_code == 202:
                self.job_id = response.json()["data"]["job_id"]
            else:
                self._refused(response)
        elif (job := self._look()) and not self.ended:
            self._whole(job["result"])

    @property
    def begun(self) -> bool:
        return bool(self.job_id)


class Embedding(Plain):
    """Some vectors."""

    path = "/models/{model}/embeddings"

    def __init__(self, world: World, key: str, *, count: int = 8) -> None:
        super().__init__(world, key, model=EMBEDDER)
        self.inputs = [f"{i} " + "water " * (i * 7 % 6) for i in range(count)]

    def body(self) -> dict[str, Any]:
        return {"input": self.inputs}

    def _whole(self, result: Mapping[str, Any]) -> None:
        got = [entry["embedding"] for entry in result["data"]]
        wanted = self.world.vectors.setdefault(str(len(self.inputs)), got)
        if len(got) != len(wanted) or numpy.abs(numpy.array(got) - numpy.array(wanted)).max() > TOLERANCE:
            self.error = "other vectors"
        self.ended = True


class Deployment(RestClient):
    """Brings a model up, asks it, and takes it off again."""

    streams = False
    marked = False

    def __init__(self, world: World) -> None:
        super().__init__(world, KEY, model="slow")
        self._progress = ""
        self._up = False

    @property
    def begun(self) -> bool:
        return bool(self._progress) or self.ended

    def _turn(self) -> None:
        if not self._progress:
            response = self.http.post("/models/local/deploy", json={"model_type": self.model})
            if response.status_code == 200:
                self._progress = response.json()["data"]["progress_url"]
            elif response.status_code == 409:  # an earlier try, whose reply was lost
                self.http.delete(f"/models/local/{self.model}")
            else:
                self._refused(response)
        elif not self._up:
            response = self.http.get(self._progress)
            status = response.json()["data"]["status"] if response.status_code == 200 else ""
            if status in BAD_ENDS:
                self._fail(f"deployment {status}: {response.json()['data'].get('error')}")
            self._up = status == "completed"
        elif self.http.delete(f"/models/local/{self.model}").status_code in (200, 404):
            gone = not self.world.stack.registry.replicas(self.model)
            self.ended = gone

    def oracle(self, choice: int) -> str:
        return ""


def _reason(response: httpx.Response) -> str:
    try:
        body = response.json()
    except ValueError:
        return ""
    found = body.get("error") or body.get("data") or {}
    return str(found.get("reason") or found.get("code") or body.get("message"))[:60]


def _why(job: Mapping[str, Any]) -> str:
    error = job.get("error") or {}
    return str(error.get("reason") or job["status"])


def tokens_for(fault_s: float, step_s: float) -> int:
    """So many tokens that a stream is in its middle when a fault of that length has ended."""
    return int((fault_s + 6.0) / step_s)


def remote_words(fault_s: float) -> int:
    """The same for a remote model."""
    return max(10, int((fault_s + 4.0) / PACE_S))
