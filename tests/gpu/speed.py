"""One model on a device, `python -m tests.gpu.speed`: raw engine, whole path, transformers' own generate_batch.

Then its engine is killed in the middle of streams.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.bench.contest import compare
from tests.bench.headrace import contestant, headrace
from tests.bench.server import Helper
from tests.gpu.killed import killed_in_mid_stream
from tests.gpu.models import CONTEXT_LENGTH, SHAPES, bytes_read, bytes_saved
from tests.stack import Stack

CATALOG = """
device = "{device}"
max_batch_size = {streams}

[models.{name}]
capabilities = ["chat", "completion"]
engine = "transformers"
source = "{folder}"
context_length = {context}
max_tokens = {context}
options = {{ cache_tokens = {cache} }}
"""
#: Tokens of the KV cache for each stream: two blocks, as prompt and answer take more than one.
CACHE_TOKENS = 512
RAW, PLAIN = "raw engine", "generate_batch"
#: Where files are in memory, if there is room for the model.
SHARED_MEMORY = Path("/dev/shm")


class Results:
    """What was measured, written each time there is more: there may be no time for the rest."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._found: dict[str, Any] = {}

    def add(self, **more: Any) -> None:
        """Write these, too."""
        self._found |= more
        self._path.write_text(json.dumps(self._found))


@contextlib.contextmanager
def saved(name: str, device: str) -> Iterator[Path]:
    """The model in a folder, until the end of the block. A process makes it, so that the device's memory is free."""
    fits = SHARED_MEMORY.exists() and shutil.disk_usage(SHARED_MEMORY).free > 1.2 * bytes_saved(name)
    with tempfile.TemporaryDirectory(prefix="hr-gpu-", dir=SHARED_MEMORY if fits else None) as folder:
        path = Path(folder) / name
        subprocess.run([sys.executable, "-m", "tests.gpu.models", name, str(path), "--device", device], check=True)
        yield path


@contextlib.contextmanager
def contestants(name: str, folder: Path, device: str, streams: int) -> Iterator[tuple[Stack, dict[str, Any]]]:
    """The three, loaded at the same time, with KV caches of one size; and the stack of the whole path."""
    cache = streams * CACHE_TOKENS
    catalog = CATALOG.format(
        device=device, streams=streams, name=name, folder=folder, context=CONTEXT_LENGTH, cache=cache
    )
    with contextlib.ExitStack() as opened:
        file = folder.parent / "headrace.toml"
        file.write_text(catalog)
        raw = Helper("tests.bench.raw", name, str(file))
        plain = Helper("tests.gpu.plain", str(folder), device, str(cache))
        load = Helper("tests.bench.load")
        for helper in (raw, plain, load):
            opened.callback(helper.close)
        stack = opened.enter_context(headrace(name, catalog=catalog, device=device, max_batch_size=streams))
        raw.read()
        plain.read()
        whole = contestant(stack, name)
        yield stack, {RAW: raw.ask, whole.name: partial(whole.run, load), PLAIN: plain.ask}


def main() -> None:
    """Make the model, measure, kill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=SHAPES, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--streams", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    streams = [int(count) for count in args.streams.split(",")]
    results, begun = Results(args.out), time.monotonic()
    with saved(args.model, args.device) as folder:
        results.add(bytes_read=bytes_read(args.model), saved_s=time.monotonic() - begun)
        with contestants(args.model, folder, args.device, max(streams)) as (stack, runs):
            results.add(loaded_s=time.monotonic() - begun, effective=dict(stack.replica(args.model).effective))
            speed: dict[str, Any] = {}
            for count in streams:
                for who, found in compare(runs, [count], rounds=1, against=[RAW, PLAIN]).items():
                    speed.setdefault(who, {}).update(found)
                results.add(speed=speed)
            results.add(killed=killed_in_mid_stream(stack, args.model, args.device))


if __name__ == "__main__":
    main()
