"""Models with random weights, made in a moment, in safetensors or OpenVINO IR folders or GGUF files; and odd copies of
the demo model.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from workers.formats.files import LocalFiles
from workers.formats.gguf import read_header


def save_tiny_llama(folder: Path, **shape: Any) -> Path:
    """Save a float32 Llama of two layers into a folder; `shape` changes its config. It takes no torch."""
    import numpy
    from safetensors.numpy import save_file

    config = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "dtype": "float32",
        "vocab_size": 512,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "bos_token_id": 1,
        "eos_token_id": 2,
        **shape,
    }
    hidden, inner, vocabulary = config["hidden_size"], config["intermediate_size"], config["vocab_size"]
    kv = hidden // config["num_attention_heads"] * config["num_key_value_heads"]
    attention = {"q_proj": (hidden, hidden), "k_proj": (kv, hidden), "v_proj": (kv, hidden), "o_proj": (hidden, hidden)}
    mlp = {"gate_proj": (inner, hidden), "up_proj": (inner, hidden), "down_proj": (hidden, inner)}
    shapes = {"model.embed_tokens": (vocabulary, hidden), "lm_head": (vocabulary, hidden), "model.norm": (hidden,)}
    for i in range(config["num_hidden_layers"]):
        shapes |= {f"model.layers.{i}.self_attn.{name}": of for name, of in attention.items()}
        shapes |= {f"model.layers.{i}.mlp.{name}": of for name, of in mlp.items()}
        shapes |= {f"model.layers.{i}.{name}": (hidden,) for name in ("input_layernorm", "post_attention_layernorm")}
    random = numpy.random.default_rng(0)
    values = {name: random.normal(0, 0.02, of) if len(of) > 1 else numpy.ones(of) for name, of in shapes.items()}
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {f"{name}.weight": value.astype(numpy.float32) for name, value in values.items()}
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "generation_config.json").write_text(json.dumps({"bos_token_id": 1, "eos_token_id": 2}))
    return folder


#: A Llama that is as small as OpenVINO allows, in the fields of a GGUF file.
HIDDEN, INNER, HEADS, KV_HEADS, LAYERS, VOCABULARY = 128, 256, 2, 1, 2, 49_152
TINY = {
    "llama.block_count": LAYERS,
    "llama.embedding_length": HIDDEN,
    "llama.feed_forward_length": INNER,
    "llama.attention.head_count": HEADS,
    "llama.attention.head_count_kv": KV_HEADS,
    "llama.rope.dimension_count": HIDDEN // HEADS,
}


def demo_path() -> Path:
    """The file of the demo model, SmolLM2."""
    path = load_catalog(Settings.load({})).get("smollm2-135m").path()
    assert path is not None
    return path


@cache
def demo_fields() -> dict[str, Any]:
    """What the header of the demo model's file says. `gguf` itself takes seconds to read it."""
    header = read_header(LocalFiles(demo_path()), demo_path().name)
    return {name: header.get(name) for name in header.names}


def write_demo(path: Path, changes: Mapping[str, Any], tensors: Mapping[str, Any] | None = None) -> Path:
    """A copy of the demo model's file. Fields are changed, added, or (None) left out; `tensors` stand for its own.

    A tensor is an array of numbers, or of the bytes of Q8_0.
    """
    import gguf

    writer, kinds = gguf.GGUFWriter(path, "llama"), gguf.GGUFValueType
    for name, value in {**demo_fields(), **changes}.items():
        if name != "general.architecture" and value is not None:
            kind = kinds.UINT32 if type(value) is int else kinds.get_type(value)
            writer.add_key_value(name, value, kind, kinds.get_type(value[0]) if kind is kinds.ARRAY else None)
    if tensors is None:
        for tensor in gguf.GGUFReader(demo_path()).tensors:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    for name, values in (tensors or {}).items():
        writer.add_tensor(name, values, raw_dtype=gguf.GGMLQuantizationType.Q8_0 if values.dtype == "uint8" else None)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def save_tiny_gguf(path: Path, changes: Mapping[str, Any] | None = None, *, quantized: bool = True) -> Path:
    """Save a Llama with random weights in Q8_0, or else float16, with the tokenizer of SmolLM2; see `write_demo`."""
    import gguf
    import numpy

    random = numpy.random.default_rng(0)
    kv = KV_HEADS * HIDDEN // HEADS
    rows = {"attn_q": HIDDEN, "attn_k": kv, "attn_v": kv, "ffn_gate": INNER, "ffn_up": INNER, "attn_output": HIDDEN}
    shapes = {"token_embd": (VOCABULARY, HIDDEN), "output_norm": (HIDDEN,)}
    for i in range(LAYERS):
        shapes |= {f"blk.{i}.{name}": (count, HIDDEN) for name, count in rows.items()}
        shapes |= {f"blk.{i}.ffn_down": (HIDDEN, INNER)}
        shapes |= {f"blk.{i}.{name}": (HIDDEN,) for name in ("attn_norm", "ffn_norm")}
    tensors = {}
    for name, shape in shapes.items():
        values = random.normal(0, 0.1, shape) if len(shape) > 1 else numpy.ones(shape)
        if quantized:
            values = values.astype(numpy.float32)
            is_matrix = len(shape) > 1
            tensors[f"{name}.weight"] = gguf.quantize(values, gguf.GGMLQuantizationType.Q8_0) if is_matrix else values
        else:
            tensors[f"{name}.weight"] = values.astype(numpy.float16 if len(shape) > 1 else numpy.float32)
    file_type = gguf.LlamaFileType.MOSTLY_Q8_0 if quantized else gguf.LlamaFileType.MOSTLY_F16
    return write_demo(path, {**TINY, "general.file_type": int(file_type), **(changes or {})}, tensors)


def save_tiny_ir(folder: Path) -> Path:
    """Save a Llama with random float16 weights as OpenVINO IR, with the vocabulary of SmolLM2.

    GenAI makes the IR of a GGUF file.
    """
    import openvino_genai as genai

    source = save_tiny_gguf(folder / "tiny.gguf", quantized=False)
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = 16
    genai.ContinuousBatchingPipeline(source, scheduler, "CPU", {"enable_save_ov_model": True}, {})
    source.unlink()
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    return folder
