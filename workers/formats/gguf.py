"""GGUF: one file whose header has the model's description, the tokenizer, and type, shape and place of each tensor."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from gateway.failures import FailureReason, SourceFailed
from gateway.formats import Weights
from gateway.memory import Footprint
from workers.formats.config import KV_NUMBER_BYTES
from workers.formats.files import Files, cut_off

#: How much of a file that lies elsewhere is read to find the whole header: at first, and at most.
FIRST_READ_BYTES, MAX_READ_BYTES = 8 << 20, 128 << 20
MAGIC = b"GGUF"


def footprint(files: Files, weights: Weights) -> Footprint:
    """Raises: SourceFailed."""
    (name,) = weights.files
    size = files.sizes[name]
    if files.read(name, 0, len(MAGIC)) != MAGIC:
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is not a GGUF file, or its beginning is damaged.")
    path = files.path(name)
    reader = _read(path, name, size) if path else _read_elsewhere(files, name)
    described = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("tokenizer.")}
    architecture = described["general.architecture"]
    about = {key.removeprefix(f"{architecture}."): value for key, value in described.items()}
    tokens = reader.fields.get("tokenizer.ggml.tokens")
    num_parameters = sum(tensor.n_elements for tensor in reader.tensors)
    tensor_bytes = sum(tensor.n_bytes for tensor in reader.tensors)
    return Footprint(
        format="gguf",
        weights_bytes=size,
        num_parameters=num_parameters,
        kv_bytes_per_token=_kv_bytes(about),
        hidden_size=int(about.get("embedding_length", 0)),
        vocabulary_size=len(tokens.data) if tokens else int(about.get("vocab_size", 0)),
        context_length=int(about.get("context_length", 0)),
        bits_per_weight=round(8 * tensor_bytes / num_parameters, 2) if num_parameters else 0.0,
    )


def _kv_bytes(about: dict[str, Any]) -> int:
    """Keys and values of one token in all layers; the number of heads may differ by layer."""
    layers = int(about.get("block_count", 0))
    heads = about.get("attention.head_count", 0)
    kv_heads = about.get("attention.head_count_kv", heads)
    widest = max(heads) if isinstance(heads, list) else heads
    head_size = int(about.get("embedding_length", 0)) // widest if widest else 0
    of_token = about.get("attention.key_length", head_size) + about.get("attention.value_length", head_size)
    in_all = sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * layers
    return int(in_all * of_token * KV_NUMBER_BYTES)


def _read(path: Path, name: str, size: int) -> Any:
    """The header of a file. Raises: SourceFailed if the file is shorter than its tensors."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, IndexError, KeyError, UnicodeDecodeError) as error:
        # What the reader makes of a file that ends in the middle.
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is cut off or damaged: {error}.") from error
    end = max((tensor.data_offset + tensor.n_bytes for tensor in reader.tensors), default=0)
    if size < end:
        raise cut_off(name, size, end)
    return reader


def _read_elsewhere(files: Files, name: str) -> Any:
    """The header of a file that lies elsewhere: its beginning, in a file of the same length that is empty else.

    Such a file takes no more room than what was read.
    """
    size = files.sizes[name]
    have = b""
    while len(have) < min(size, MAX_READ_BYTES):
        wanted = min(size, max(FIRST_READ_BYTES, 2 * len(have)))
        have += files.read(name, len(have), wanted - len(have))
        with tempfile.NamedTemporaryFile(suffix=".gguf") as sparse:
            sparse.write(have)
            sparse.truncate(size)
            sparse.flush()
            try:
                reader = _read(Path(sparse.name), name, size)
            except SourceFailed:
                if len(have) < size:
                    continue
                raise
        if reader.data_offset <= len(have):
            return reader
    raise SourceFailed(FailureReason.CHECKSUM, f"{name}: its header does not end within {MAX_READ_BYTES} bytes.")
