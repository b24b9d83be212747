"""The model over vLLM, if its environment is installed: raw in process, the whole path, and `vllm serve`.

Other raw engines take their turns with it: by these figures the default engine of a CPU is chosen.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tests.apart import FOLDER, lend
from tests.bench.contest import compare
from tests.bench.headrace import contestant, headrace
from tests.bench.peers import VLLM_SERVE, vllm_serve
from tests.bench.server import Helper
from tests.bench.workload import MODEL
from workers.host.venvs import Environment

#: The model in bfloat16, for the engines that serve safetensors.
CATALOG = """
[models.on-{engine}]
capabilities = ["chat", "completion"]
engine = "{engine}"
source = "{folder}"
context_length = 8192
max_tokens = 8192
"""
RAW_VLLM = "raw vLLM"
#: What makes OpenVINO's own format of safetensors.
EXPORTER = "openvino-export"


def is_installed(engine: str = "vllm") -> bool:
    """Whether `make deps-engines` has been here."""
    return Environment.of(engine, FOLDER).installed() is not None


def measure(streams: Sequence[int], rounds: int) -> dict[str, Any]:
    """The figures of all. What is wanted is compared with: vLLM itself, and its own server."""
    with contextlib.ExitStack() as opened:
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="hr-bench-")))
        model = folder / "model"
        subprocess.run([sys.executable, "-m", "tests.bench.sources", str(model)], check=True)
        engines = ("vllm", "transformers", "openvino")
        catalog = "".join(CATALOG.format(engine=engine, folder=model) for engine in engines)
        (folder / "headrace.toml").write_text(catalog)
        raws = {
            RAW_VLLM: Helper("tests.bench.raw", "on-vllm", str(folder / "headrace.toml"), apart="vllm"),
            "raw OpenVINO, Q4_1": Helper("tests.bench.raw", MODEL, str(folder / "headrace.toml")),
            "raw transformers": Helper("tests.bench.raw", "on-transformers", str(folder / "headrace.toml")),
        }
        if is_installed(EXPORTER):
            lend(EXPORTER, folder)
            raws["raw OpenVINO"] = Helper("tests.bench.raw", "on-openvino", str(folder / "headrace.toml"))
        load = Helper("tests.bench.load")
        for helper in (*raws.values(), load):
            opened.callback(helper.close)
        for raw in raws.values():
            raw.read()
        stack = opened.enter_context(headrace("on-vllm", catalog=catalog, apart="vllm"))
        servers = [contestant(stack, "on-vllm"), opened.enter_context(vllm_serve(model))]
        contestants = {name: raw.ask for name, raw in raws.items()}
        contestants |= {server.name: partial(server.run, load) for server in servers if server}
        against = [name for name in (RAW_VLLM, VLLM_SERVE) if name in contestants]
        return compare(contestants, streams, rounds, against=against)
