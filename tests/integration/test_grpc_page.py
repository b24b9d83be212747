"""The examples of docs/grpc.md, run as they stand there, over TLS and with real models. Only the port is another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golang import Workspace
from tests.rpc import start_rpc
from tests.stack import KEY, REPOSITORY, Stack, running

#: The first build compiles Go's gRPC.
BUILD_S = 600

PAGE = (REPOSITORY / "docs" / "grpc.md").read_text()
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = _BLOCK.findall(PAGE)


def examples(language: str) -> list[str]:
    """The page's blocks of a language."""
    return [text for name, text in BLOCKS if name == language]


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"all-minilm-l6-v2": {}}) as stack:
        start_rpc(stack)
        yield stack


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, stack: Stack) -> Path:
    """A reader's folder: the CA and the proto file, and what the page's first command makes of it."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copy(stack.folder / "tls" / "ca.pem", folder)
    shutil.copy(REPOSITORY / "proto" / "model.proto", folder)
    run(stack, folder, examples("sh")[0])
    return folder


@pytest.fixture(scope="module")
def deployed(stack: Stack, folder: Path) -> str:
    """What the last Python example prints. It deploys the model that the others speak to."""
    return run_python(stack, folder, examples("python")[-1])


def run_python(stack: Stack, folder: Path, text: str) -> str:
    return run(stack, folder, f"python - <<'END'\n{text}\nEND\n")


def run(stack: Stack, folder: Path, script: str) -> str:
    """Run commands as a reader would, and return what they print. Fails if one fails."""
    script = script.replace("localhost:50051", f"localhost:{stack.settings.grpc_port}")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    environ = {**os.environ, "PATH": path, "HEADRACE_KEY": KEY}
    command = ["bash", "-euc", script]
    done = subprocess.run(command, check=False, cwd=folder, env=environ, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_python_examples(stack: Stack, folder: Path, deployed: str) -> None:
    chat, job, vectors = (run_python(stack, folder, text) for text in examples("python")[:-1])
    assert "Paris" in chat
    story, _, usage = job.partition("\n prompt_tokens: ")
    assert story.strip()
    counted = re.search(r"completion_tokens: (\d+)", usage)
    assert counted, usage
    assert 0 < int(counted[1]) <= 60, "it may end its turn itself"
    vector_count, refused = vectors.splitlines()
    assert vector_count == "2 vectors of 384 numbers"
    assert refused.startswith("NOT_FOUND There is no model 'nobody'.")
    planned, *stages, model, _ = deployed.splitlines()
    assert re.fullmatch(r"n1\.cpu0 \d+ MB planned", planned)
    assert stages[-1] == "service_registration completed 100"
    assert model == "smollm2-135m active 8"


@pytest.mark.slow
@pytest.mark.timeout(BUILD_S)
@pytest.mark.usefixtures("deployed")
def test_the_go_example(stack: Stack, folder: Path, tmp_path: Path) -> None:
    (text,) = examples("go")
    workspace = Workspace(tmp_path / "go")
    shutil.copy(folder / "ca.pem", workspace.folder)
    run(stack, workspace.folder / "src", examples("sh")[1])
    built = workspace.build("chat", text.replace("localhost:50051", f"localhost:{stack.settings.grpc_port}"))
    assert run(stack, workspace.folder, str(built)).strip()


@pytest.mark.usefixtures("deployed")
def test_the_grpcurl_examples(stack: Stack, folder: Path) -> None:
    """grpcurl itself. It learns the services and messages by reflection."""
    printed = run(stack, folder, examples("sh")[2])
    assert printed.startswith("grpc.health.v1.Health\n")
    assert "model.JobService\nmodel.KeyService\nmodel.ModelService\n" in printed
    assert "message ChatCompletionRequest {\n  string model_id = 1;\n" in printed
    assert '"id": "smollm2-135m"' in printed
    assert "".join(re.findall(r'"content": "(.*)"', printed)).strip()
    assert re.search(r'"prompt_tokens": "3",\s*"completion_tokens": "4"', printed)
    assert re.search(r'"memory_plan": {\s*"n1.cpu0": {\s*"weights_bytes": "\d+"', printed)
    assert '"fits": true' in printed
    assert printed.endswith('{\n  "status": "SERVING"\n}\n')
