"""Tiny models whose weights are packed as quantizers do it, 4 bits with a scale for each group; and plain twins."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.named_models import save_safetensors

GROUP, BITS, PER_WORD = 128, 4, 8
#: The middle of 4 bits.
ZERO = 8
#: In which order AWQ lays the columns of a word.
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
#: The weights are so large that a wrong one shows in the answer.
LARGER = 4.0


def save_packed(folder: Path, kind: str, **shape: Any) -> tuple[Path, Path]:
    """A Llama packed by `gptq` or `awq`, and the same model in float32."""
    import numpy
    from safetensors.numpy import load_file, save_file

    plain, packed = (save_safetensors(folder / name, dtype="float32", **shape) for name in ("plain", kind))
    tensors, words = load_file(plain / "model.safetensors"), {}
    for name, weight in list(tensors.items()):
        if not name.endswith("_proj.weight"):
            words[name] = weight
            continue
        rows = weight.T * LARGER  # (in, out)
        groups = rows.reshape(-1, GROUP, rows.shape[1])
        scales = (numpy.abs(groups).max(1) / (ZERO - 1)).astype(numpy.float16)
        numbers = numpy.rint(groups / scales[:, None]).clip(-ZERO, ZERO - 1).astype(numpy.int64)
        tensors[name] = (numbers * scales[:, None]).reshape(rows.shape).T.astype(numpy.float32)
        base = name.removesuffix("weight")
        zeros = numpy.full(scales.shape, ZERO)
        words |= {base + part: value for part, value in PACKS[kind](numbers.reshape(rows.shape) + ZERO, zeros).items()}
        words[base + "scales"] = scales
    for path, stored in ((plain, tensors), (packed, words)):
        # As they lie in memory they are written.
        stored = {name: numpy.ascontiguousarray(value) for name, value in stored.items()}
        save_file(stored, path / "model.safetensors", metadata={"format": "pt"})
    said = {"quant_method": kind, "bits": BITS, "group_size": GROUP, **CONFIGS[kind]}
    declare(packed, said)
    return packed, plain


def declare(folder: Path, said: dict[str, Any]) -> Path:
    """Let a model's `config.json` say how its weights are packed."""
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "quantization_config": said}))
    return folder


def _words(numbers: Any, order: tuple[int, ...]) -> Any:
    """Each eight numbers of a row, in one word of 32 bits."""
    import numpy

    eights = numbers.reshape(numbers.shape[0], -1, PER_WORD)
    shifted = [eights[..., column] << BITS * place for place, column in enumerate(order)]
    return numpy.bitwise_or.reduce(shifted).astype(numpy.uint32).view(numpy.int32)


def _gptq(numbers: Any, zeros: Any) -> dict[str, Any]:
    """Numbers packed along a column; zeros, less one, along a row."""
    import numpy

    plain = tuple(range(PER_WORD))
    return {
        "qweight": _words(numbers.T, plain).T,
        "qzeros": _words(zeros - 1, plain),
        "g_idx": numpy.arange(len(numbers), dtype=numpy.int32) // GROUP,
    }


def _awq(numbers: Any, zeros: Any) -> dict[str, Any]:
    return {"qweight": _words(numbers, AWQ_ORDER), "qzeros": _words(zeros, AWQ_ORDER)}


PACKS: dict[str, Callable[[Any, Any], dict[str, Any]]] = {"gptq": _gptq, "awq": _awq}
CONFIGS = {"gptq": {"desc_act": False, "sym": True}, "awq": {"zero_point": True, "version": "gemm"}}
