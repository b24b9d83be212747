"""Small models as people publish them, for tests that find them by name. Each loads, and talks nonsense."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tests.tiny_models import save_tiny_llama
from tests.tokenizers import CONTROL, save_folder, train

#: Knows tools, as Qwen's and Hermes' do.
TEMPLATE = (
    "{% if tools %}<|bos|>system {{ tools | tojson }} <tool_call></tool_call><|eot|>{% endif %}"
    "{% for m in messages %}<|bos|>{{ m.role }} {{ m.content }}<|eot|>{% endfor %}<|bos|>assistant "
)
PLAIN = TEMPLATE.partition("{% endif %}")[2]
#: Rows are whole blocks of all of GGUF's types.
HIDDEN, INNER, HEADS, KV_HEADS = 256, 512, 4, 2


@cache
def small_bpe() -> Any:
    """Byte-level BPE, cut as SmolLM does."""
    from tokenizers import pre_tokenizers

    digits = pre_tokenizers.Digits(individual_digits=True)
    return train(pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)]))


def save_safetensors(folder: Path, *, template: str | None = TEMPLATE, card: str = "", **config: Any) -> Path:
    """A Llama in float32 with a tokenizer, and a README that begins with `card`."""
    shape = {"vocab_size": 1216, "bos_token_id": 0, "eos_token_id": 1, "max_position_embeddings": 4096}
    save_folder(save_tiny_llama(folder, **{**shape, **config}), small_bpe(), template=template)
    (folder / "README.md").write_text(f"---\n{card}\n---\n# A model\n")
    return folder


def save_gguf(
    path: Path,
    *,
    architecture: str = "llama",
    kind: str = "Q8_0",
    layers: int = 1,
    template: str = TEMPLATE,
    fields: Mapping[str, Any] = {},
) -> Path:
    """A file whose matrices have one type. Those of types that the package can't make are all zeros.

    `fields` are more of the header, None leaves one out.
    """
    import gguf

    parts = json.loads(small_bpe().to_str())["model"]
    tokens = sorted(parts["vocab"], key=parts["vocab"].get)
    said = {
        "general.name": path.stem,
        "general.file_type": _file_type(kind),
        f"{architecture}.block_count": layers,
        f"{architecture}.context_length": 4096,
        f"{architecture}.embedding_length": HIDDEN,
        f"{architecture}.feed_forward_length": INNER,
        f"{architecture}.attention.head_count": HEADS,
        f"{architecture}.attention.head_count_kv": KV_HEADS,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
        f"{architecture}.rope.dimension_count": HIDDEN // HEADS,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "smollm",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.merges": [merge if isinstance(merge, str) else " ".join(merge) for merge in parts["merges"]],
        "tokenizer.ggml.token_type": [3 if token in CONTROL else 1 for token in tokens],
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.chat_template": template or None,
        **fields,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    writer, kinds = gguf.GGUFWriter(path, architecture), gguf.GGUFValueType
    for name, value in said.items():
        if value is not None:
            of = kinds.UINT32 if type(value) is int else kinds.get_type(value)
            writer.add_key_value(name, value, of, kinds.get_type(value[0]) if of is kinds.ARRAY else None)
    for name, shape in _shapes(len(tokens), layers).items():
        stored = gguf.GGMLQuantizationType[kind if len(shape) > 1 else "F32"]
        writer.add_tensor(f"{name}.weight", _numbers(shape, stored), raw_dtype=stored)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _file_type(kind: str) -> int:
    import gguf

    names = gguf.LlamaFileType.__members__
    return int(
        next((names[name] for name in (f"MOSTLY_{kind}", f"MOSTLY_{kind}_M", f"ALL_{kind}") if name in names), 7)
    )


def _shapes(vocabulary: int, layers: int) -> dict[str, tuple[int, ...]]:
    kv = KV_HEADS * HIDDEN // HEADS
    rows = {"attn_q": HIDDEN, "attn_k": kv, "attn_v": kv, "attn_output": HIDDEN, "ffn_gate": INNER, "ffn_up": INNER}
    shapes: dict[str, tuple[int, ...]] = {"token_embd": (vocabulary, HIDDEN), "output_norm": (HIDDEN,)}
    for i in range(layers):
        shapes |= {f"blk.{i}.{name}": (count, HIDDEN) for name, count in rows.items()}
        shapes |= {f"blk.{i}.ffn_down": (HIDDEN, INNER)}
        shapes |= {f"blk.{i}.{name}": (HIDDEN,) for name in ("attn_norm", "ffn_norm")}
    return shapes


def _numbers(shape: tuple[int, ...], kind: Any) -> Any:
    import gguf
    import numpy

    values = numpy.random.default_rng(0).normal(0, 0.1, shape) if len(shape) > 1 else numpy.ones(shape)
    try:
        return gguf.quantize(values.astype(numpy.float32), kind)
    except NotImplementedError:
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        return numpy.zeros((shape[0], shape[1] // block * block_bytes), numpy.uint8)
