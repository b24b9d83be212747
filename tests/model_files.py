"""Small but real model files of each format, written by the libraries that define them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 128,
}
#: Keys and values of CONFIG: 3 layers, 2 heads of 8 numbers, 2 bytes each.
KV_BYTES = 2 * 3 * 2 * 8 * 2


def write_safetensors(folder: Path, *, shards: int = 1, size: int = 64, **config: Any) -> Path:
    """A folder with `config.json`, and two tensors of `size` x `size` in each shard: float32, then float16."""
    from safetensors.numpy import save_file

    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**CONFIG, **config}))
    weight_map = {}
    for i in range(1, shards + 1):
        name = "model.safetensors" if shards == 1 else f"model-{i:05}-of-{shards:05}.safetensors"
        numbers = numpy.random.default_rng(i).random((size, size), dtype=numpy.float32)
        tensors = {f"a.{i}": numbers, f"b.{i}": numbers.astype(numpy.float16)}
        save_file(tensors, folder / name, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(tensors, name)
    if shards > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def write_gguf(path: Path, *, tokens: int = 100, size: int = 64, file_type: int = 7) -> Path:
    """A file of the shape of CONFIG, with one Q8_0 and one float32 tensor of `size` x `size`."""
    import gguf

    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(3)
    writer.add_context_length(128)
    writer.add_file_type(file_type)
    writer.add_embedding_length(32)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_token_list([f"token {i}" for i in range(tokens)])
    numbers = numpy.random.default_rng(0).random((size, size), dtype=numpy.float32)
    q8 = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("a", gguf.quantize(numbers, q8), raw_dtype=q8)
    writer.add_tensor("b", numbers)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def write_openvino(folder: Path, *, size: int = 64, config: bool = True) -> Path:
    """A folder with a graph: a `size` x `size` matrix of float32, a cache of 2 heads of 8 numbers, logits of 100."""
    import openvino
    from openvino import opset13 as ops
    from openvino.op.util import Variable, VariableInfo

    folder.mkdir(parents=True, exist_ok=True)
    random = numpy.random.default_rng(0)
    given = ops.parameter([1, -1, size], numpy.float32)
    middle = ops.matmul(given, ops.constant(random.random((size, size), dtype=numpy.float32)), False, False)
    logits = ops.matmul(middle, ops.constant(random.random((size, 100), dtype=numpy.float32)), False, False)
    info = VariableInfo()
    info.data_shape, info.data_type = openvino.PartialShape([-1, 2, -1, 8]), openvino.Type.f32
    info.variable_id = "past_key_values.0.key"
    variable = Variable(info)
    kept = ops.read_value(ops.constant(numpy.zeros((1, 2, 0, 8), dtype=numpy.float32)), variable)
    model = openvino.Model([ops.result(logits)], [ops.assign(kept, variable)], [given], "small")
    openvino.save_model(model, folder / "openvino_model.xml", compress_to_fp16=False)
    if config:
        (folder / "config.json").write_text(json.dumps(CONFIG))
    return folder
