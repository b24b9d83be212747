"""Compresses the weights of an OpenVINO IR folder: `python -m workers.engines.openvino.compression_process FD`.

It keeps its copy until the socket closes, and then removes it and ends.
"""

from __future__ import annotations

import logging
import os
import shutil
import threading
from contextlib import suppress
from math import prod
from pathlib import Path
from typing import Any

import openvino

from workers.engines.children import log_lines, parent
from workers.engines.failures import LoadFailed, Reason, to_payload
from workers.engines.frames import FrameSocket

log = logging.getLogger("headrace.engine")

MODEL = "openvino_model.xml"
#: Weights that share a scale and a zero point in int4. In int8 each row has its own.
INT4_GROUP = 64
#: Least elements of a tensor of weights; smaller ones are shapes, axes and tables.
_WEIGHTS = 4096
#: Tries to remove the copy.
_REMOVALS = 100
_LOW_BIT = ("i8", "u8", "i4", "u4", "nf4", "i2", "u2")


def main() -> None:
    """Compress, report it, and wait until the socket closes."""
    log_lines()
    frames = parent()
    asked = frames.receive()
    copy = Path(asked["copy"])
    keeper = threading.Thread(target=_keep, args=(frames, copy), daemon=True)
    keeper.start()
    try:
        compress(Path(asked["folder"]), copy, asked["quantization"])
        answer: dict[str, Any] = {"done": True}
    except Exception as error:  # the process' edge: say why, then end
        log.exception("weights can't be compressed")
        answer = to_payload(error)
    with suppress(OSError):  # the engine is gone
        frames.send(answer)
    keeper.join()


def compress(folder: Path, copy: Path, quantization: str) -> None:
    """Write the compressed model, and links to the other files of the folder.

    Raises:
        LoadFailed: there is no model, its weights are compressed already, or NNCF is not installed.
    """
    if not (folder / MODEL).exists():
        raise LoadFailed(Reason.MISSING_FILE, f"There is no {MODEL} in {folder.name}.")
    model = openvino.Core().read_model(folder / MODEL)
    stored = _low_bit_type(model)
    if stored:
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"The weights in {folder.name} are stored as {stored} already, and run so with quantization `none`.",
        )
    try:
        import nncf
    except ImportError as error:
        raise LoadFailed(
            Reason.BAD_QUANTIZATION,
            f"{quantization} needs NNCF, which can't be imported here ({error}): pip install 'headrace[worker]'.",
        ) from error
    options: dict[str, Any] = {"mode": nncf.CompressWeightsMode.INT8_ASYM}
    if quantization == "int4":
        options = {"mode": nncf.CompressWeightsMode.INT4_ASYM, "group_size": INT4_GROUP, "ratio": 1.0}
    openvino.save_model(nncf.compress_weights(model, **options), copy / MODEL)
    for file in folder.iterdir():
        if file.stem != Path(MODEL).stem:
            (copy / file.name).symlink_to(file.resolve())


def _low_bit_type(model: Any) -> str:
    """The type of weights of 8 bits or fewer; empty if there are none."""
    for node in model.get_ops():
        if node.get_type_name() == "Constant":
            name = node.get_output_element_type(0).to_string()
            if name in _LOW_BIT and prod(node.get_output_shape(0)) >= _WEIGHTS:
                return str(name)
    return ""


def _keep(frames: FrameSocket, copy: Path) -> None:
    try:
        frames.receive()
    except (EOFError, OSError):
        remove(copy)
        os._exit(0)


def remove(folder: Path) -> None:
    """Remove a folder in which files may still appear."""
    for _ in range(_REMOVALS):
        shutil.rmtree(folder, ignore_errors=True)
        if not folder.exists():
            break


if __name__ == "__main__":
    main()
