"""Makes OpenVINO IR of a folder of safetensors: `python -m workers.engines.openvino.export_process FD`.

Runs under the interpreter of an environment with optimum-intel. It ends with its parent, and leaves nothing then.
"""

from __future__ import annotations

import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

from workers.engines.children import log_lines, parent
from workers.engines.failures import LoadFailed, Reason, classify, to_payload
from workers.engines.frames import FrameSocket
from workers.engines.openvino.compression_process import MODEL, compress, remove

log = logging.getLogger("headrace.engine")


def main() -> None:
    """Export, report it, and end."""
    log_lines("export")
    os.environ["HF_HUB_OFFLINE"] = "1"  # it gets local files
    frames = parent()
    asked = frames.receive()
    draft = Path(asked["draft"])
    threading.Thread(target=_end_with_parent, args=(frames, draft), daemon=True).start()
    answer: dict[str, Any] = {"done": True}
    try:
        made = export(Path(asked["folder"]), draft, asked["quantization"], lambda part: frames.send({"part": part}))
        move(made, Path(asked["place"]))
    except Exception as error:  # the process' edge: say why, then end
        log.exception("the model can't be exported")
        answer = to_payload(_blamed(error))
    with suppress(OSError):  # the engine is gone
        frames.send(answer)


def export(folder: Path, draft: Path, quantization: str, on_part: Callable[[int], None]) -> Path:
    """Make IR in a folder below `draft`. Returns it. Raises: what optimum raises, LoadFailed."""
    from optimum.exporters.openvino import main_export
    from optimum.intel import OVConfig

    on_part(1)
    whole, packed = draft / "whole", draft / "packed"
    main_export(
        str(folder),
        whole,
        task="text-generation-with-past",
        ov_config=OVConfig(dtype="fp32" if quantization == "none" and _is_float32(folder) else "fp16"),
        library_name="transformers",
        convert_tokenizer=True,
        local_files_only=True,
    )
    # The type of keys and values is the engine's choice, as for other formats.
    graph = whole / MODEL
    graph.write_text(re.sub(r'\s*<KV_CACHE_PRECISION value="\w+" />', "", graph.read_text()))
    on_part(2)
    if quantization != "none":
        packed.mkdir()
        compress(whole, packed, quantization)
        for made in packed.glob(f"{graph.stem}.*"):
            made.replace(whole / made.name)
    on_part(3)
    return whole


def move(made: Path, place: Path) -> None:
    """Move a folder to its place, where it is whole, also after a power cut. One that is there already stays."""
    for path in [*made.iterdir(), made]:
        handle = os.open(path, os.O_RDONLY)
        os.fsync(handle)
        os.close(handle)
    try:
        made.rename(place)
    except OSError:
        if not place.exists():  # another device of this machine was not quicker
            raise


def _is_float32(folder: Path) -> bool:
    """Whether most weights are stored so."""
    from safetensors import safe_open

    sizes: Counter[str] = Counter()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "numpy") as tensors:
            for name in tensors.keys():  # noqa: SIM118  # it is no dictionary
                one = tensors.get_slice(name)
                sizes[one.get_dtype()] += prod(one.get_shape())
    return sizes.most_common(1)[0][0] == "F32"


def _blamed(error: Exception) -> Exception:
    """What optimum raises without a known reason is about the model: no other try will help."""
    reason, message = classify(error)
    if reason is not Reason.INTERNAL:
        return error
    failed = LoadFailed(Reason.UNSUPPORTED_ARCHITECTURE, f"optimum can't make OpenVINO IR of it: {message:.500}")
    failed.__cause__ = error
    return failed


def _end_with_parent(frames: FrameSocket, draft: Path) -> None:
    try:
        frames.receive()
    except (EOFError, OSError):
        remove(draft)
        os._exit(0)


if __name__ == "__main__":
    main()
