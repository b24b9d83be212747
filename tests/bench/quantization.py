"""What quantization costs and gains, `python -m tests.bench.quantization`: docs/quantization.json and docs/engines.md.

Each row is a process of its own, with one thread: memory after the load and a full batch, tokens per second of that
thread's CPU time (other processes then change little), perplexity of a text, and how often the likeliest next token is
that of the same engine's unquantized model. `optimum-quanto` is measured if it is installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import platform
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy
import psutil

from tests.apart import environment
from tests.bench.sources import gguf_file, save_ir, save_safetensors
from tests.bench.workload import MODEL
from tests.engines import loaded_engine
from tests.made_parts import put
from workers.engines.base import Engine, EngineConfig, Sampling, SequenceRequest
from workers.engines.openvino.copies import compressed
from workers.engines.pytorch.quantization import _release
from workers.tokenizers.load import load_tokenizer

DOCS = Path(__file__).parents[2] / "docs"
#: Tokens of each window of the text; how many windows.
WINDOW, WINDOWS = 512, 4
PROMPT_TOKENS, ANSWER_TOKENS = 40, 32
STREAMS = (1, 16)


@dataclass(frozen=True)
class Row:
    """What is measured. `source` names a folder or file, `means` a way that the product does not go."""

    engine: str
    source: str
    quantization: str
    means: str = ""

    @property
    def name(self) -> str:
        """For the table."""
        return f"{self.engine} {self.source} {self.quantization} {self.means}".strip()

    @property
    def is_exported(self) -> bool:
        """Whether the engine has other files made of the source."""
        return self.engine == "openvino" and self.source == "safetensors"


ROWS = [
    Row("openvino", "ir", "none"),
    Row("openvino", "ir", "int8"),
    Row("openvino", "ir", "int4"),
    Row("openvino", "gguf", "none"),
    Row("openvino", "safetensors", "none"),
    Row("openvino", "safetensors", "int8"),
    Row("openvino", "safetensors", "int4"),
    Row("transformers", "safetensors", "none"),
    Row("transformers", "safetensors", "int8"),
    Row("transformers", "safetensors", "int4"),
    Row("transformers", "safetensors", "int8", "optimum-quanto"),
    Row("transformers", "safetensors", "int4", "optimum-quanto"),
]


def main() -> None:
    """Measure all rows, or in a child one of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", type=int, help="number of the row; its sources are in --folder")
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    if args.child is not None:
        print(json.dumps(measure(ROWS[args.child], args.folder)), flush=True)
        sys.stdout.close()
        psutil.Process().kill()  # engines may hold threads
    with TemporaryDirectory() as folder:
        for rows in measured(Path(folder)):
            write(rows)


def write(rows: list[dict[str, Any]]) -> None:
    """Write what is known so far into the docs."""
    result = {"model": MODEL, "machine": machine(), "versions": versions(), "rows": rows}
    (DOCS / "quantization.json").write_text(json.dumps(result, indent=2) + "\n")
    put(DOCS / "engines.md", "quantization", table(rows))


def measured(folder: Path) -> Iterator[list[dict[str, Any]]]:
    """Each row in a child of its own; all rows so far."""
    gguf = gguf_file()
    for name in ("safetensors", "ir", "gguf-ir"):
        (folder / name).mkdir()
    save_safetensors(gguf, folder / "safetensors")
    save_ir(gguf, folder / "ir")
    save_ir(gguf, folder / "gguf-ir", as_stored=True)
    rows: list[dict[str, Any]] = []
    for i, row in enumerate(ROWS):
        if row.means == "optimum-quanto" and importlib.util.find_spec("optimum.quanto") is None:
            continue
        child = [sys.executable, "-m", "tests.bench.quantization", "--child", str(i), "--folder", str(folder)]
        done = subprocess.run(child, stdout=subprocess.PIPE, text=True, timeout=900, check=False)
        answer = [line for line in done.stdout.splitlines() if line.startswith("{")]
        measured = json.loads(answer[-1]) if answer else {"error": f"ended with status {done.returncode}"}
        rows.append(asdict(row) | measured)
        print(rows[-1], file=sys.stderr, flush=True)
        yield rows


def measure(row: Row, folder: Path) -> dict[str, Any]:
    """Memory, speed, perplexity and agreement of one row."""
    path = gguf_file() if row.source == "gguf" else folder / row.source
    options = {"threads": 1, "properties": {"INFERENCE_NUM_THREADS": 1}}
    config = EngineConfig(row.engine, str(path), "CPU", max(STREAMS), 1024, options, quantization=row.quantization)
    if row.is_exported:
        python = environment("openvino-export").python
        config = replace(config, cache_dir=str(folder / "exports"), exporter=str(python))
    ids = list(load_tokenizer(str(gguf_file()), "openvino").encode(text()))[: WINDOW * WINDOWS]
    started = time.monotonic()
    with patch("workers.engines.pytorch.loading.quantize", _by_quanto) if row.means else nullcontext():
        engine = loaded_engine(config)
    load_s = time.monotonic() - started
    speed = {f"tokens_per_cpu_s_{n}": round(tokens_per_cpu_s(engine, ids, n), 1) for n in STREAMS}
    memory = psutil.Process().memory_full_info().uss >> 20
    scores = logits(engine, row, folder, ids)
    chosen = scores.argmax(-1)
    unquantized = folder / f"{row.engine}.npy"
    if row.quantization == "none" and not unquantized.exists():
        numpy.save(unquantized, chosen)
    targets = numpy.array(ids).reshape(WINDOWS, WINDOW)[:, 1:]
    chances = scores[:, :-1] - numpy.logaddexp.reduce(scores[:, :-1], axis=-1, keepdims=True)
    perplexity = numpy.exp(-numpy.take_along_axis(chances, targets[..., None], -1).mean())
    return {
        "load_s": round(load_s, 1),
        "memory_mib": memory,
        **speed,
        "perplexity": round(float(perplexity), 3),
        "agreement": round(float((chosen == numpy.load(unquantized)).mean()), 4),
    }


def tokens_per_cpu_s(engine: Engine, ids: list[int], streams: int) -> float:
    """Greedy answers to as many prompts at once, prompts included in the time."""
    for i in range(streams):
        prompt = ids[i * PROMPT_TOKENS : (i + 1) * PROMPT_TOKENS]
        engine.add(SequenceRequest(streams * 100 + i, prompt, Sampling(ANSWER_TOKENS, temperature=0.0)))
    started, made = time.process_time(), 0
    while engine.has_work():
        made += sum(len(output.token_ids) for output in engine.step())
    return made / (time.process_time() - started)


def logits(engine: Any, row: Row, folder: Path, ids: list[int]) -> Any:
    """Scores of each next token, float32 (windows, tokens, vocabulary), by the very weights of the row."""
    windows = numpy.array(ids).reshape(WINDOWS, WINDOW)
    if row.engine == "transformers":
        import torch

        with torch.no_grad():
            parts = [engine._manager.model(torch.tensor(window[None])).logits for window in windows]
        return torch.cat(parts).float().numpy()
    import openvino

    stored = folder / ("gguf-ir" if row.source == "gguf" else "ir")
    if row.is_exported:
        (stored,) = (folder / "exports").glob(f"*-{row.quantization}")
    as_it_is = row.is_exported or row.quantization == "none"
    with nullcontext(stored) if as_it_is else compressed(stored, row.quantization) as copy:
        compiled = openvino.Core().compile_model(copy / "openvino_model.xml", "CPU")
        request = compiled.create_infer_request()
        parts = []
        for window in windows:
            request.reset_state()
            ones = numpy.ones((1, WINDOW), dtype=numpy.int64)
            inputs = {"input_ids": window[None], "attention_mask": ones, "position_ids": ones.cumsum(-1) - 1}
            result = request.infer({**inputs, "beam_idx": numpy.zeros(1, dtype=numpy.int32)})
            parts.append(result[compiled.output("logits")].copy())
    return numpy.concatenate(parts)


def _by_quanto(model: Any, quantization: str) -> None:
    """A way of quantizing that the product does not go."""
    from optimum import quanto

    quanto.quantize(model.base_model, weights=getattr(quanto, f"q{quantization}"))
    quanto.freeze(model.base_model)
    _release(model)


def text() -> str:
    """English prose that comes with Python: the reference of its `help()`."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))[:30_000]


def machine() -> str:
    """In words."""
    model = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = model[0].partition(":")[2].strip() if model else platform.processor()
    return f"{name}, {psutil.cpu_count()} cores, one thread"


def versions() -> dict[str, str]:
    """Of what takes part, and is installed."""
    found = {}
    for name in ("openvino-genai", "nncf", "torch", "transformers", "torchao", "optimum-quanto"):
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return found


def table(rows: list[dict[str, Any]]) -> str:
    """In Markdown."""
    lines = [
        "| engine, source, quantization | memory | tokens/s, 1 | tokens/s, 16 | perplexity | agreement |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        name = Row(row["engine"], row["source"], row["quantization"], row["means"]).name
        if "error" in row:
            lines.append(f"| {name} | {row['error']} | | | | |")
            continue
        lines.append(
            f"| {name} | {row['memory_mib']} MiB | {row['tokens_per_cpu_s_1']} | {row['tokens_per_cpu_s_16']} "
            f"| {row['perplexity']:.2f} | {row['agreement']:.1%} |"
        )
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
