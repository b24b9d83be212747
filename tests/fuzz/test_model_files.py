"""Model files with any counts, lengths, offsets and types in their headers: a size, or the one documented failure."""

from __future__ import annotations

import json
import struct
import tempfile
import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.deployments.reasons import DeploymentFailed, SourceFailed
from gateway.models.footprint import Footprint
from gateway.store.codec import dumps
from tests.fuzz.budget import budget
from tests.model_files import CONFIG, write_gguf, write_openvino, write_safetensors
from tests.tokenizers import save_folder, train
from tests.tokenizers import write_gguf as write_tokenizer
from workers.formats.detect import OPENVINO_MODEL, SAFETENSORS_INDEX
from workers.sources.model_footprint import MOST, footprint_of
from workers.tokenizers.encoder import EncoderTokenizer
from workers.tokenizers.load import load_tokenizer, reading_tokenizer

#: What may be taken to read the headers of a file of some kilobytes.
MOST_MEMORY = 64 << 20
NUMBERS = [
    0,
    1,
    2,
    7,
    8,
    9,
    31,
    32,
    255,
    4096,
    4097,
    1 << 16,
    1 << 31,
    (1 << 32) - 1,
    1 << 32,
    1 << 53,
    1 << 60,
    1 << 63,
]
NUMBERS += [(1 << 64) - 1, (1 << 64) - 8, (1 << 64) - 32]

numbers = st.sampled_from(NUMBERS) | st.integers(0, (1 << 64) - 1)
json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from([-1, *NUMBERS, 10**30])
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


class InMemory:
    """Files that are nowhere; read in pieces, as those on the hub."""

    def __init__(self, contents: Mapping[str, bytes], *, is_file: bool = False) -> None:
        self._contents = contents
        self.sizes = {name: len(content) for name, content in contents.items()}
        self.is_file = is_file

    def read(self, name: str, start: int = 0, length: int = -1) -> bytes:
        content = self._contents[name]
        return content[start:] if length < 0 else content[start : start + length]

    def path(self, name: str) -> None:
        return None


def sized_or_refused(files: InMemory) -> Footprint | None:
    """The invariant: sane numbers that can be published, or SourceFailed, in little memory."""
    tracemalloc.start()
    try:
        found = footprint_of(files)
    except SourceFailed as error:
        assert len(error.message) < 2000
        return None
    finally:
        peak, _ = tracemalloc.get_traced_memory()[1], tracemalloc.stop()
        assert peak < MOST_MEMORY
    assert all(0 <= value <= MOST for value in vars(found).values() if not isinstance(value, str))
    dumps(vars(found))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A right file of each format."""
    folder = tmp_path_factory.mktemp("right")
    write_safetensors(folder / "s", size=8)
    write_openvino(folder / "o", size=8)
    return {
        "gguf": write_gguf(folder / "a.gguf", tokens=20, size=32).read_bytes(),
        "safetensors": (folder / "s" / "model.safetensors").read_bytes(),
        "openvino": (folder / "o" / OPENVINO_MODEL).read_bytes(),
        "openvino.bin": (folder / "o" / "openvino_model.bin").read_bytes(),
    }


@st.composite
def damaged(draw: st.DrawFn, content: bytes) -> bytes:
    """A right file with a few places overwritten, cut out or doubled; most of them in its header."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, max(0, min(len(changed), 2048) - 1)) | st.integers(0, max(0, len(changed) - 1)))
        match draw(st.sampled_from(["u8", "u32", "u64", "cut", "remove", "double"])):
            case "u8":
                changed[at : at + 1] = bytes([draw(st.integers(0, 255))])
            case "u32":
                changed[at : at + 4] = struct.pack("<I", draw(numbers) & 0xFFFFFFFF)
            case "u64":
                changed[at : at + 8] = struct.pack("<Q", draw(numbers))
            case "cut":
                del changed[at:]
            case "remove":
                del changed[at : at + draw(st.integers(1, 16))]
            case "double":
                changed[at:at] = changed[at : at + draw(st.integers(1, 64))]
    return bytes(changed)


@budget()
@given(data=st.data())
@pytest.mark.parametrize("format", ["gguf", "safetensors", "openvino"])
def test_a_right_file_that_was_damaged_is_sized_or_refused(
    data: st.DataObject, format: str, files: dict[str, bytes]
) -> None:
    content = data.draw(damaged(files[format]))
    if format == "gguf":
        sized_or_refused(InMemory({"a.gguf": content}, is_file=True))
    elif format == "safetensors":
        sized_or_refused(InMemory({"model.safetensors": content, "config.json": dumps(CONFIG).encode()}))
    else:
        sized_or_refused(InMemory({OPENVINO_MODEL: content, "openvino_model.bin": files["openvino.bin"]}))


FIELDS = [b"general.architecture", b"general.alignment", b"llama.block_count", b"llama.attention.head_count"]
FIELDS += [b"llama.attention.head_count_kv", b"llama.embedding_length", b"tokenizer.ggml.tokens", b"x"]


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@st.composite
def gguf_files(draw: st.DrawFn) -> bytes:
    """A file that is put together as the format says, of parts that make no sense together."""
    kinds = st.integers(0, 13)
    value = st.builds(struct.pack, st.just("<Q"), numbers) | st.binary(max_size=16).map(text)
    array = st.builds(
        lambda kind, count, rest: struct.pack("<IQ", kind, count) + rest, kinds, numbers, st.binary(max_size=64)
    )
    key = st.sampled_from(FIELDS) | st.binary(max_size=8)
    field = st.builds(
        lambda key, kind, value: text(key) + struct.pack("<I", kind) + value, key, kinds, value | array
    ) | st.just(text(b"general.architecture") + struct.pack("<I", 8) + text(b"llama"))
    tensor = st.builds(
        lambda name, shape, kind, offset: (
            text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind & 0xFFFFFFFF, offset)
        ),
        st.binary(max_size=4),
        st.lists(numbers | st.sampled_from([32, 64]), max_size=5),
        st.integers(0, 45),
        numbers | st.sampled_from([0, 32, 4096]),
    )
    fields, tensors = draw(st.lists(field, max_size=6)), draw(st.lists(tensor, max_size=4))
    counts = draw(st.just((len(tensors), len(fields))) | st.tuples(numbers, numbers))
    head = b"GGUF" + struct.pack("<IQQ", draw(st.sampled_from([1, 2, 3, 3 << 24])), *counts)
    return head + b"".join([*fields, *tensors]) + bytes(draw(st.integers(0, 512)))


@budget()
@given(content=gguf_files())
def test_any_gguf_header_is_sized_or_refused(content: bytes) -> None:
    sized_or_refused(InMemory({"a.gguf": content}, is_file=True))


@budget()
@given(
    tensors=st.dictionaries(
        st.text(max_size=4),
        st.fixed_dictionaries(
            {
                "dtype": st.sampled_from(["F32", "F16", "I8", "U8", "F4", "?"]) | json_values,
                "shape": st.lists(numbers | st.integers(-2, 64), max_size=4) | json_values,
                "data_offsets": st.lists(numbers | st.integers(-2, 64), min_size=2, max_size=2) | json_values,
            }
        )
        | json_values,
        max_size=4,
    ),
    length=st.none() | numbers,
    behind=st.integers(0, 64),
    quantization=json_values,
)
def test_any_safetensors_header_is_sized_or_refused(
    tensors: dict[str, Any], length: int | None, behind: int, quantization: Any
) -> None:
    header = json.dumps(tensors).encode()
    content = struct.pack("<Q", len(header) if length is None else length) + header + bytes(behind)
    config = json.dumps({**CONFIG, "quantization_config": quantization}).encode()
    sized_or_refused(InMemory({"model.safetensors": content, "config.json": config}))


#: Names of numbers, lists and objects that are read of `config.json`.
READ = [
    "hidden_size",
    "vocab_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "n_embd",
]
READ += [
    "layer_types",
    "per_layer_config",
    "num_kv_shared_layers",
    "text_config",
    "architectures",
    "kv_lora_rank",
    "auto_map",
]
READ += [
    "max_position_embeddings",
    "model_type",
    "pad_token_id",
    "quantization_config",
    "global_head_dim",
    "multi_query",
]


@budget()
@given(changes=st.dictionaries(st.sampled_from(READ), json_values, max_size=5))
def test_any_config_is_sized_or_refused(changes: dict[str, Any], files: dict[str, bytes]) -> None:
    config = json.dumps({**CONFIG, **changes}).encode()
    sized_or_refused(InMemory({"model.safetensors": files["safetensors"], "config.json": config}))


@budget()
@given(
    index=json_values
    | st.fixed_dictionaries({"weight_map": st.dictionaries(st.text(max_size=4), json_values, max_size=4)})
)
def test_any_index_is_followed_or_refused(index: Any, files: dict[str, bytes]) -> None:
    contents = {"a.safetensors": files["safetensors"], "config.json": dumps(CONFIG).encode()}
    sized_or_refused(InMemory({**contents, SAFETENSORS_INDEX: json.dumps(index).encode()}))


@budget()
@given(
    layers=st.lists(
        st.tuples(
            st.sampled_from(["Const", "ReadValue", "Result", "Add"]),
            st.dictionaries(
                st.sampled_from(["size", "offset", "shape", "element_type", "variable_shape"]),
                st.sampled_from(["", "f16", "-1", "9" * 30, "1,2", "?,1,?,8", "1," * 40])
                | numbers.map(str)
                | st.text("0,-x", max_size=9),
            ),
            st.sampled_from(["", "1", "-1", "x", "9" * 30]),
        ),
        max_size=5,
    ),
    deep=st.sampled_from([0, 0, 10, 100_000]),
)
def test_any_graph_is_sized_or_refused(
    layers: list[tuple[str, dict[str, str], str]], deep: int, files: dict[str, bytes]
) -> None:
    inner = "".join(
        f'<layer type="{kind}"><data {" ".join(f"{name}={chr(34)}{value}{chr(34)}" for name, value in data.items())}/>'
        f"<input><port><dim>1</dim><dim>1</dim><dim>{dim}</dim></port></input></layer>"
        for kind, data, dim in layers
    )
    graph = f"<net><layers>{'<a>' * deep}{inner}{'</a>' * deep}</layers></net>".encode()
    sized_or_refused(InMemory({OPENVINO_MODEL: graph, "openvino_model.bin": files["openvino.bin"]}))


@pytest.mark.parametrize(
    "content",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"num_hidden_layers": 1000000000}',
        b'{"num_hidden_layers": ' + b"9" * 4000 + b"}",
        b'{"num_hidden_layers": ' + b"9" * 5000 + b"}",
        b'{"hidden_size": 1e308}',
        b'{"hidden_size": Infinity}',
        b'{"layer_types": "' + b"x" * 100_000 + b'"}',
        b"\xff\xfe",
        b"<html>",
        b"NaN",
    ],
)
def test_descriptions_that_take_a_parser_down_are_refused(content: bytes, files: dict[str, bytes]) -> None:
    found = sized_or_refused(InMemory({"model.safetensors": files["safetensors"], "config.json": content}))
    assert found is None or found.kv_bytes_per_token == 0


@pytest.mark.parametrize(
    ("at", "value"),
    [(8, 1 << 63), (16, 1 << 63), (16, (1 << 64) - 1), (24, 1 << 63), (24, (1 << 64) - 8), (24, (1 << 64) - 32)],
)
def test_counts_and_lengths_that_would_wrap_around_are_refused(at: int, value: int, files: dict[str, bytes]) -> None:
    content = bytearray(files["gguf"])
    content[at : at + 8] = struct.pack("<Q", value)
    assert sized_or_refused(InMemory({"a.gguf": bytes(content)}, is_file=True)) is None


def test_offsets_that_would_wrap_around_are_refused(files: dict[str, bytes]) -> None:
    content = bytearray(files["gguf"])
    at = content.index(text(b"b")) + len(text(b"b")) + 4 + 16 + 4
    for offset in ((1 << 64) - 32, (1 << 64) - (1 << 12), 1 << 63, 1, 33):
        content[at : at + 8] = struct.pack("<Q", offset)
        assert sized_or_refused(InMemory({"a.gguf": bytes(content)}, is_file=True)) is None, offset


@pytest.fixture(scope="module")
def tokenizers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A right tokenizer of each format."""
    from tokenizers import pre_tokenizers

    folder = tmp_path_factory.mktemp("tokenizers")
    oracle = train(pre_tokenizers.ByteLevel(add_prefix_space=False))
    return {
        "gguf": write_tokenizer(folder / "a.gguf", oracle, "gpt-2", chat_template="x").read_bytes(),
        "json": (save_folder(folder / "folder", oracle) / "tokenizer.json").read_bytes(),
    }


def read_or_refused(path: Path) -> None:
    """The invariant: a tokenizer that encodes, or DeploymentFailed."""
    try:
        tokenizer = load_tokenizer(str(path), "openvino")
    except DeploymentFailed as error:
        assert len(error.message) < 2000
    else:
        ids = tokenizer.encode_prompt("Hello, 123 wörld\n")
        assert isinstance(tokenizer.decode(ids), str)


@budget()
@given(data=st.data())
def test_a_damaged_gguf_tokenizer_is_read_or_refused(data: st.DataObject, tokenizers: dict[str, bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.gguf"
        path.write_bytes(data.draw(damaged(tokenizers["gguf"])))
        read_or_refused(path)


#: Parts of a `tokenizer.json`, and of a `tokenizer_config.json`.
PARTS = [
    "added_tokens",
    "normalizer",
    "pre_tokenizer",
    "post_processor",
    "decoder",
    "model",
    "truncation",
    "padding",
    "version",
]
NAMED = ["bos_token", "eos_token", "chat_template", "additional_special_tokens", "add_bos_token"]
added = st.fixed_dictionaries(
    {"id": json_values, "content": json_values, "special": json_values},
    optional={"lstrip": json_values, "normalized": json_values},
)


@budget(examples=20)
@given(
    changes=st.dictionaries(st.sampled_from(PARTS), json_values | st.lists(added, max_size=2), max_size=2),
    model=st.dictionaries(
        st.sampled_from(["vocab", "merges", "unk_token", "type", "dropout"]), json_values, max_size=2
    ),
    config=json_values | st.dictionaries(st.sampled_from(NAMED), json_values, max_size=3),
    generation=json_values | st.fixed_dictionaries({"eos_token_id": json_values}),
)
def test_any_tokenizer_of_a_folder_is_read_or_refused(
    changes: dict[str, Any], model: dict[str, Any], config: Any, generation: Any, tokenizers: dict[str, bytes]
) -> None:
    parts = cast(dict[str, Any], json.loads(tokenizers["json"]))
    parts["model"] |= model
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "tokenizer.json").write_text(json.dumps({**parts, **changes}))
        (folder / "tokenizer_config.json").write_text(json.dumps(config))
        (folder / "generation_config.json").write_text(json.dumps(generation))
        (folder / "sentence_bert_config.json").write_text(json.dumps(config))
        (folder / "config.json").write_text(dumps(CONFIG))
        read_or_refused(folder)
        try:
            with reading_tokenizer(folder):
                EncoderTokenizer(folder).encode(["Hello"])
        except DeploymentFailed:
            return
