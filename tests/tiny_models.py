"""Models with random weights, made in a moment, in safetensors or OpenVINO IR folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from gateway.models.catalog import load_catalog
from gateway.settings import Settings


def save_tiny_llama(folder: Path, **shape: Any) -> Path:
    """Save a float32 Llama of two layers into a folder; `shape` changes its config."""
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        **{
            "vocab_size": 512,
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            **shape,
        }
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def save_tiny_ir(folder: Path) -> Path:
    """Save a Llama with random float16 weights as OpenVINO IR, with the vocabulary of SmolLM2.

    GenAI makes the IR of a GGUF file, which is made here of SmolLM2's fields and other tensors.
    """
    import gguf
    import numpy
    import openvino_genai as genai

    source = gguf.GGUFReader(load_catalog(Settings()).get("smollm2-135m").path())
    hidden, inner, heads, kv_heads, layers = 128, 256, 2, 1, 2
    size = hidden // heads
    changed = {
        "llama.block_count": layers,
        "llama.embedding_length": hidden,
        "llama.feed_forward_length": inner,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": kv_heads,
        "llama.rope.dimension_count": size,
        "general.file_type": 1,
    }
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    for field in source.fields.values():
        if not field.name.startswith("GGUF.") and field.name != "general.architecture":
            inner_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            value = changed.get(field.name, field.contents())
            writer.add_key_value(field.name, value, field.types[0], sub_type=inner_type)
    random = numpy.random.default_rng(0)
    rows = {"attn_q": hidden, "attn_k": kv_heads * size, "attn_v": kv_heads * size, "ffn_gate": inner, "ffn_up": inner}
    shapes = {"token_embd": (49_152, hidden), "output_norm": (hidden,)}
    for i in range(layers):
        shapes |= {f"blk.{i}.{name}": (count, hidden) for name, count in rows.items()}
        shapes |= {f"blk.{i}.attn_output": (hidden, hidden), f"blk.{i}.ffn_down": (hidden, inner)}
        shapes |= {f"blk.{i}.{name}": (hidden,) for name in ("attn_norm", "ffn_norm")}
    for name, shape in shapes.items():
        values = random.normal(0, 0.1, shape).astype(numpy.float16)
        writer.add_tensor(f"{name}.weight", values if len(shape) > 1 else numpy.ones(shape, numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    scheduler = genai.SchedulerConfig()
    scheduler.num_kv_blocks = 16
    genai.ContinuousBatchingPipeline(folder / "tiny.gguf", scheduler, "CPU", {"enable_save_ov_model": True}, {})
    (folder / "tiny.gguf").unlink()
    (folder / "generation_config.json").write_text('{"eos_token_id": 2}')
    return folder
