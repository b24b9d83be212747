"""IR that is made of a folder of safetensors, by optimum in an environment of its own: once, then it is kept.

{cache_dir}/{key}/          the IR and its tokenizer, whole
{cache_dir}/.{key}-XXXX/    in the making; it is moved to its place at once
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from workers.engines.base import EngineConfig
from workers.engines.children import greet, spawn
from workers.engines.failures import ChildEnded, LoadFailed, Reason, failure_from
from workers.engines.frames import FrameSocket
from workers.engines.openvino.compression_process import MODEL
from workers.engines.weights import weights_digest

#: Parts that are reported: optimum is there, the IR is made, its weights are compressed.
PARTS = 3
#: What nobody has loaded for so long is removed, and what was not finished in that time.
KEPT_S, DRAFT_S = 30 * 86_400.0, 86_400.0
#: Bytes of the disk for each byte of the source: the IR, and another copy while its weights are compressed.
DISK_BYTES_PER_BYTE = 1.6


def needs_export(path: Path) -> bool:
    """Whether what lies there is safetensors only."""
    return path.is_dir() and not (path / MODEL).exists() and any(path.glob("*.safetensors"))


def exported(config: EngineConfig, on_part: Callable[[int], None]) -> Path:
    """The folder with the IR of the model's safetensors. `on_part` is called with the number of finished parts.

    Raises:
        LoadFailed: it can't be made; the reason is in the text.
    """
    place = Path(config.cache_dir) / _key(config)
    if not place.exists():
        _export(config, place, on_part)
    os.utime(place)  # see `_tidy`
    return place


def _export(config: EngineConfig, place: Path, on_part: Callable[[int], None]) -> None:
    source = Path(config.model_path)
    if not config.exporter:
        raise LoadFailed(
            Reason.UNSUPPORTED_ARCHITECTURE,
            f"{source.name} is safetensors, which openvino serves where openvino-export is installed: "
            "headrace engine install openvino-export.",
        )
    place.parent.mkdir(parents=True, exist_ok=True)
    _tidy(place.parent)
    _require_space(source, place.parent)
    draft = Path(mkdtemp(prefix=f".{place.name}-", dir=place.parent))
    process, ours = spawn("workers.engines.openvino.export_process", python=config.exporter, stdout=subprocess.DEVNULL)
    try:
        with ours:
            frames = FrameSocket(ours)
            asked = {"folder": str(source), "draft": str(draft), "place": str(place)}
            greet(frames, {**asked, "quantization": config.quantization})
            while "done" not in (told := _received(frames, process)):
                if "part" not in told:
                    raise failure_from(told)
                on_part(told["part"])
    finally:
        process.wait()
        shutil.rmtree(draft, ignore_errors=True)


def _received(frames: FrameSocket, process: subprocess.Popen[bytes]) -> Any:
    """The next frame. Raises: ChildEnded."""
    try:
        return frames.receive()
    except (EOFError, OSError) as error:
        raise ChildEnded("the export to OpenVINO IR", process.wait()) from error


def _key(config: EngineConfig) -> str:
    """The same for the same files and quantization. The digest alone does not see a change in the middle of a file."""
    source = Path(config.model_path)
    files = sorted(path for path in source.iterdir() if path.is_file())
    seen = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in files]
    about = json.dumps([str(source.resolve()), weights_digest(config), seen])
    return f"{hashlib.sha256(about.encode()).hexdigest()[:24]}-{config.quantization}"


def _require_space(source: Path, folder: Path) -> None:
    """Raises: LoadFailed, NO_SPACE."""
    size = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    needed, free = int(size * DISK_BYTES_PER_BYTE), shutil.disk_usage(folder).free
    if needed > free:
        raise LoadFailed(
            Reason.NO_SPACE,
            f"OpenVINO IR of {source.name} takes {needed / 1e9:.2f} GB, and {folder} has {free / 1e9:.2f} GB free.",
        )


def _tidy(folder: Path) -> None:
    """Remove what is not used any more. Files that an engine has open stay usable."""
    for path in folder.iterdir():
        kept_s = DRAFT_S if path.name.startswith(".") else KEPT_S
        if path.stat().st_mtime < time.time() - kept_s:
            shutil.rmtree(path, ignore_errors=True)
