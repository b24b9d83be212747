"""A model without weights, which lets OpenVINO GenAI compile grammars where no step waits for it.

The library compiles a grammar (by xgrammar) in the first step that samples with it, and keeps it with the tokenizer. A
pipeline over the same tokenizer, with as many tokens, finds it there; to make a token with this one costs nothing.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy
import openvino
import openvino_genai
from openvino import opset13 as ops

MODEL = "openvino_model.xml"
#: What any engine can compile.
TRIVIAL = 'root ::= "a"'


class StandIn:
    """A pipeline for one thread. It must be made before the other pipeline runs beside it."""

    def __init__(self, tokenizer: Any, vocabulary: int, eos_id: int) -> None:
        """Raises: RuntimeError if the library can't use grammars with this tokenizer."""
        self._eos_id = eos_id
        self._prompt = openvino.Tensor(numpy.array([[0]], numpy.int64))
        self._pipeline = _pipeline(tokenizer, vocabulary)
        #: With another number of tokens the library throws away what it keeps.
        self._other = _pipeline(tokenizer, vocabulary + 1)
        self.clear()

    def compile(self, grammar: str, *, tokens: int = 1, seed: int | None = None) -> None:
        """Make some tokens in this form, without the GIL. Raises: RuntimeError, in whose text the library says why."""
        self._pipeline.generate(self._prompt, self._asked(grammar, tokens, seed))

    def clear(self) -> None:
        """Forget all grammars. No pipeline over this tokenizer may run meanwhile. It takes some 50 ms."""
        self._other.generate(self._prompt, self._asked(TRIVIAL, 1, None))
        self.compile(TRIVIAL)

    def _asked(self, grammar: str, tokens: int, seed: int | None) -> Any:
        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = tokens
        config.stop_token_ids = {self._eos_id}
        config.do_sample = seed is not None
        config.rng_seed = seed or 0
        config.structured_output_config = structured(grammar)
        return config


def structured(grammar: str) -> Any:
    """The part of a GenerationConfig."""
    return openvino_genai.StructuredOutputConfig(grammar=grammar)


def why_not(error: Exception) -> str:
    """What xgrammar says, without where in its sources it stands."""
    return " ".join(str(error).split("cpp:")[-1].partition(": ")[2].split())[:300] or f"{error!r:.300}"


def _pipeline(tokenizer: Any, vocabulary: int) -> Any:
    folder = Path(tempfile.mkdtemp(prefix="headrace-"))
    try:
        openvino.save_model(_model(vocabulary), folder / MODEL, compress_to_fp16=False)
        return openvino_genai.LLMPipeline(str(folder), tokenizer, "CPU", ATTENTION_BACKEND="SDPA")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _model(vocabulary: int) -> Any:
    """The inputs that the library wants, and logits that are all zero."""
    shapes = {"input_ids": [-1, -1], "attention_mask": [-1, -1], "position_ids": [-1, -1], "beam_idx": [-1]}
    inputs = {name: ops.parameter(shape, openvino.Type.i64, name=name) for name, shape in shapes.items()}
    inputs["beam_idx"] = ops.parameter([-1], openvino.Type.i32, name="beam_idx")
    for name, one in inputs.items():
        one.output(0).set_names({name})
    zero = ops.constant(numpy.zeros(1, numpy.float32))
    logits = ops.unsqueeze(ops.convert(inputs["input_ids"], "f32"), ops.constant(numpy.int64(2)))
    for name in ("attention_mask", "position_ids", "beam_idx"):
        axes = ops.constant(numpy.arange(len(shapes[name]), dtype=numpy.int64))
        logits = ops.add(logits, ops.convert(ops.reduce_sum(inputs[name], axes, True), "f32"))
    logits = ops.add(ops.multiply(logits, zero), ops.constant(numpy.zeros((1, 1, vocabulary), numpy.float32)))
    logits.output(0).set_names({"logits"})
    return openvino.Model([ops.result(logits)], list(inputs.values()), "stand_in")
