"""Other servers on the same machine and model, for `make bench`, if their packages (extra `bench-peers`) are there.

`python -m tests.bench.peers FOLDER` writes the demo model as safetensors, which `transformers serve` needs.
"""

from __future__ import annotations

import contextlib
import importlib.util
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from tests.bench.server import Server
from tests.bench.workload import MODEL
from tests.stack import free_port

#: Loading and, for some, compiling.
START_S = 180


def weights() -> Path:
    """The GGUF file that Headrace serves too."""
    path = load_catalog(Settings.load({})).get(MODEL).path()
    assert path is not None
    return path


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
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(weights()), "--n_ctx", "8192"]
    with _serve("llama-cpp-python", [*command, "--interrupt_requests", "false"], MODEL) as server:
        yield server


@contextlib.contextmanager
def _transformers() -> Iterator[Server | None]:
    """`transformers serve` with continuous batching, in bf16."""
    with tempfile.TemporaryDirectory(prefix="hr-bench-") as folder:
        subprocess.run([sys.executable, "-m", "tests.bench.peers", folder], check=True, stderr=subprocess.DEVNULL)
        program = Path(sys.executable).parent / "transformers"
        command = [str(program), "serve", folder, "--continuous-batching", "--dtype", "bfloat16", "--device", "cpu"]
        with _serve("transformers serve", command, folder) as server:
            yield server


@contextlib.contextmanager
def _serve(name: str, command: list[str], model: str) -> Iterator[Server | None]:
    """One server, up and warm; None, and a line that says so, if it does not answer."""
    port = free_port()
    extra = {"model": model, "stream_options": {"include_usage": True}}
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen([*command, "--host", "127.0.0.1", "--port", str(port)], stdout=log, stderr=log)
        try:
            if _answers(f"http://127.0.0.1:{port}", process, model):
                yield Server(name, port, "/v1/chat/completions", {}, extra, {"server": process.pid})
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
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.TransportError):
            return httpx.post(f"{url}/v1/chat/completions", json=body, timeout=START_S).is_success
        time.sleep(0.5)
    return False


def main() -> None:
    """Convert."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    folder, name = weights().parent, weights().name
    config: Any = GgufConfig(gguf_file=name, dequantize=True)
    AutoModelForCausalLM.from_pretrained(
        folder, gguf_file=name, quantization_config=config, dtype=torch.bfloat16
    ).save_pretrained(sys.argv[1])
    AutoTokenizer.from_pretrained(folder, gguf_file=name).save_pretrained(sys.argv[1])


if __name__ == "__main__":
    main()
