"""The Go programs of the customer's document, over TLS, with a real model. Like the document, they send no API key."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from gateway.access.api_keys import Credentials
from tests.golang import Workspace
from tests.rpc import start_rpc
from tests.stack import Stack, running

#: The first build compiles gRPC.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
#: What the document's programs give themselves, and what they get on a machine that is too slow for that.
TIME, MORE_TIME = "time.Second*10", "time.Second*80"

MODEL = "smollm2-135m"
DOCUMENT = Path(__file__).parents[1] / "document"
#: The only places that are changed.
ADDRESS, CERTIFICATE, CHAT_MODEL, STREAM_MODEL = (
    '"api.example.com:50051"',
    '"ca.pem"',
    '"deepseek-v3-14b"',
    '"qwen3-7b"',
)


#: An address of this machine that nobody else uses, for the document's port.
HOST, PORT = f"127.{random.randint(1, 254)}.{random.randint(1, 254)}.{random.randint(1, 254)}", 50051


@dataclass(frozen=True)
class Document:
    """A stack, the key that calls without one act as, and a place to build the programs."""

    stack: Stack
    secret: str
    workspace: Workspace

    def answers(self) -> list[str]:
        """The answers to this key so far, newest first."""
        with self.stack.client(self.secret) as client:
            jobs = client.get("/jobs").json()["data"]["jobs"]
            results = [client.get(f"/jobs/{job['job_id']}").json()["data"] for job in jobs]
        return [job["result"]["choices"][0]["message"]["content"] for job in results if "result" in job]


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Document]:
    with running(tmp_path_factory.mktemp("s"), {MODEL: {}}) as stack:
        record, secret = Credentials(stack.redis).create("clients without a key", ["inference"])
        settings = replace(stack.settings, grpc_default_key=record.id)
        start_rpc(stack, settings=settings)
        start_rpc(stack, "rpc-document", replace(settings, grpc_host=HOST, grpc_port=PORT))
        yield Document(stack, secret, Workspace(tmp_path_factory.mktemp("go")))


def chat_program() -> str:
    """The document's first example."""
    return (DOCUMENT / "chat.go").read_text()


def stream_program() -> str:
    """The document's second example is a part of a program: it takes the place of the call in the first one."""
    first, part = chat_program(), (DOCUMENT / "stream.go").read_text()
    head = first[: first.index("    resp, err :=")]
    return head.replace('    "log"\n', '    "fmt"\n    "io"\n    "log"\n') + part + "}\n"


PROGRAMS = {"chat": (chat_program, CHAT_MODEL), "stream": (stream_program, STREAM_MODEL)}


def changed(text: str, changes: dict[str, str]) -> str:
    """The text with each of these replaced, which stands there once."""
    for old, new in changes.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("example", PROGRAMS)
def test_the_documents_program_prints_an_answer(document: Document, example: str) -> None:
    program, model = PROGRAMS[example]
    address = f'"localhost:{document.stack.settings.grpc_port}"'
    certificate = f'"{document.stack.folder}/tls/ca.pem"'
    text = changed(program(), {ADDRESS: address, CERTIFICATE: certificate, model: f'"{MODEL}"'})
    prints_the_answer(document, example, text, lambda text: [str(document.workspace.build(example, text))])


@pytest.mark.parametrize("example", PROGRAMS)
def test_with_a_hosts_entry_even_the_address_stays(document: Document, example: str) -> None:
    """In a mount namespace of its own, so that the machine's hosts file is what it was."""
    program, model = PROGRAMS[example]
    text = changed(program(), {model: f'"{MODEL}"'})
    hosts = document.workspace.folder / "hosts"
    hosts.write_text(f"{HOST} api.example.com\n")
    unshare = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]

    def command(text: str) -> list[str]:
        built = document.workspace.build(f"{example}-as-it-is", text)
        return [*unshare, "sh", "-c", f"mount --bind {hosts} /etc/hosts && exec {built}"]

    prints_the_answer(document, example, text, command)


def prints_the_answer(document: Document, example: str, text: str, command: Callable[[str], list[str]]) -> None:
    """Run a program where the CA lies. The chat is logged behind "Response: "; the stream is printed as it is.

    The document gives its programs 10 s for up to 500 tokens: where that is too little, the same program gets more.
    """
    before = len(document.answers())
    for program in (text, changed(text, {TIME: MORE_TIME})):
        folder = document.stack.folder / "tls"
        done = subprocess.run(command(program), check=False, cwd=folder, capture_output=True, text=True, timeout=90)
        if "DeadlineExceeded" not in done.stderr:
            break
    assert done.returncode == 0, done.stderr
    printed = done.stderr.partition("Response: ")[2] if example == "chat" else done.stdout
    answers = document.answers()
    assert len(answers) > before
    assert printed.strip() == answers[0].strip() != ""
