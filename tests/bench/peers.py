"""Other servers on the same machine and model, for `make bench`, if their packages (extra `bench-peers`) are there."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import httpx

from tests.apart import environment
from tests.bench.headrace import LOAD_S
from tests.bench.server import Server
from tests.bench.sources import gguf_file
from tests.bench.workload import MODEL
from tests.stack import family, free_port

VLLM_SERVE = "vllm serve"
#: As many sequences as Headrace has, all cores (by default it leaves one to its server), and nothing logged.
VLLM_OPTIONS = (
    *("--dtype", "bfloat16", "--max-model-len", "8192", "--max-num-seqs", "32"),
    *("--disable-log-stats", "--disable-uvicorn-access-log"),
)
VLLM_ENVIRON = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_USE_AOT_COMPILE": "0"}


@contextlib.contextmanager
def peers() -> Iterator[list[Server]]:
    """All that are installed, up and answering."""
    with contextlib.ExitStack() as stack:
        servers = []
        if importlib.util.find_spec("llama_cpp") and importlib.util.find_spec("starlette_context"):
            servers.append(stack.enter_context(_llama_cpp()))
        if importlib.util.find_spec("fastapi") and importlib.util.find_spec("uvicorn"):
            servers.append(stack.enter_context(_transformers()))
        yield [server for server in servers if server is not None]


@contextlib.contextmanager
def _llama_cpp() -> Iterator[Server | None]:
    """llama-cpp-python's server. It takes one request at a time; by default a new one even ends the present one."""
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf_file()), "--n_ctx", "8192"]
    with _serve("llama-cpp-python", [*command, "--interrupt_requests", "false"], MODEL) as server:
        yield server


@contextlib.contextmanager
def _transformers() -> Iterator[Server | None]:
    """`transformers serve` with continuous batching, in bf16."""
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as folder:
        subprocess.run([sys.executable, "-m", "tests.bench.sources", folder], check=True, stderr=subprocess.DEVNULL)
        program = Path(sys.executable).parent / "transformers"
        command = [str(program), "serve", folder, "--continuous-batching", "--dtype", "bfloat16", "--device", "cpu"]
        with _serve("transformers serve", command, folder) as server:
            yield server


@contextlib.contextmanager
def vllm_serve(folder: Path) -> Iterator[Server | None]:
    """vLLM's own server, from the environment that Headrace has made for it.

    The command `vllm` itself wants a package of that name, which the build for CPUs is not.
    """
    command = [str(environment("vllm").python), "-P", "-m", "vllm.entrypoints.openai.api_server"]
    with _serve(VLLM_SERVE, [*command, "--model", str(folder), *VLLM_OPTIONS], str(folder), VLLM_ENVIRON) as server:
        yield server


@contextlib.contextmanager
def _serve(name: str, command: list[str], model: str, environ: Mapping[str, str] = {}) -> Iterator[Server | None]:
    """One server, up and warm; None, and a line that says so, if it does not answer."""
    port = free_port()
    extra = {"model": model, "stream_options": {"include_usage": True}}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            stdout=log,
            stderr=log,
            env={**os.environ, **environ},
        )
        try:
            if _answers(f"http://127.0.0.1:{port}", process, model):
                parts = {one.name(): one.pid for one in family(process.pid)[1:]}
                yield Server(name, port, "/v1/chat/completions", {}, extra, parts | {"server": process.pid})
            else:
                log.seek(0)
                print(f"{name} does not answer: ...{log.read()[-300:].decode(errors='replace')}", flush=True)
                yield None
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()
            process.wait()


def _answers(url: str, process: subprocess.Popen[bytes], model: str) -> bool:
    """Ask for a token until there is one."""
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
    deadline = time.monotonic() + LOAD_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=LOAD_S).is_success
        time.sleep(0.5)
    return False
