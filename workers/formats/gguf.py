"""GGUF: one file whose header has the model's description, the tokenizer, and type, shape and offset of each tensor."""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import gguf

from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.footprint import Footprint
from workers.formats.config import KV_ELEMENT_BYTES
from workers.formats.detect import Weights
from workers.formats.files import Files, cut_off

#: How much of a file is read to find the whole header: at first, and at most.
FIRST_READ_BYTES, MAX_READ_BYTES = 8 << 20, 128 << 20
MAGIC = b"GGUF"
#: Values of `general.file_type` that say float32 or float16 weights: OpenVINO then keeps keys and values in 16 bits.
FLOAT_FILES = (0, 1)
VERSIONS = (2, 3)
#: No model has more fields, tensors, or texts in one array.
MAX_FIELDS, MAX_TENSORS, MAX_TEXTS = 1 << 16, 1 << 18, 1 << 22
MAX_DIMENSIONS = 4
DEFAULT_ALIGNMENT = 32
#: By the format's number of a type: how one value is packed, little-endian. Texts and arrays have no fixed length.
_SCALARS = {
    number: struct.Struct(f"<{code}")
    for number, code in {
        0: "B",
        1: "b",
        2: "H",
        3: "h",
        4: "I",
        5: "i",
        6: "f",
        7: "?",
        10: "Q",
        11: "q",
        12: "d",
    }.items()
}
_TEXT, _ARRAY = 8, 9
_U32, _U64 = _SCALARS[4], _SCALARS[10]


class Ended(Exception):
    """The header is longer than what was read of the file."""


@dataclass(frozen=True)
class Tensor:
    """Where a tensor is: `offset` bytes after the beginning of all tensors. `kind` is its type, such as `Q4_K`."""

    name: str
    kind: str
    num_dimensions: int
    num_elements: int
    num_bytes: int
    offset: int


@dataclass(frozen=True)
class _Field:
    """A value that has not been decoded: `count` values of a type from `begin` on; a value alone is no array."""

    kind: int
    begin: int
    count: int = 1
    is_array: bool = False


class Header:
    """The header of a file of `size` bytes, of which `data` is the beginning.

    Values are decoded when they are asked for: most of a header are the tokenizer's texts.

    Raises:
        Ended: `data` does not have all of it.
        ValueError: the file is damaged, or not what engines read.
    """

    def __init__(self, data: bytes, size: int) -> None:
        self._data, self._size, self._at = data, size, len(MAGIC)
        version = self._number(_U32)
        if version not in VERSIONS:
            turned = int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS
            raise ValueError("it is big-endian" if turned else f"it has version {version} of the format")
        num_tensors, num_fields = self._number(_U64), self._number(_U64)
        if num_tensors > MAX_TENSORS or num_fields > MAX_FIELDS:
            raise ValueError(f"it claims {num_tensors} tensors and {num_fields} fields")
        self._fields: dict[str, _Field] = {}
        for _ in range(num_fields):
            name = self._text()
            if name in self._fields:
                raise ValueError(f"it has {name!r} twice")
            self._fields[name] = self._field()
        tensors = [self._tensor() for _ in range(num_tensors)]
        alignment = self.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1 or alignment % 8:
            raise ValueError(f"its alignment is {alignment!r}")
        #: Where the tensors begin.
        self.data_offset = -(-self._at // alignment) * alignment
        self.tensors = tensors
        _check_offsets(tensors, alignment)

    @property
    def names(self) -> list[str]:
        """Of all fields, in the file's order."""
        return list(self._fields)

    @property
    def end(self) -> int:
        """The least length of the file."""
        return self.data_offset + max((tensor.offset + tensor.num_bytes for tensor in self.tensors), default=0)

    def get(self, name: str, default: Any = None) -> Any:
        """The value of a field: a number, a text, or a list of them. Raises: UnicodeDecodeError."""
        field = self._fields.get(name)
        if field is None:
            return default
        values = list(self._texts(field) if field.kind == _TEXT else self._numbers(field))
        return values if field.is_array else values[0]

    def count(self, name: str) -> int:
        """How many values an array has; 0 if there is no such field."""
        field = self._fields.get(name)
        return field.count if field else 0

    def _numbers(self, field: _Field) -> Iterator[Any]:
        packed = _SCALARS[field.kind]
        end = field.begin + field.count * packed.size
        return (value for (value,) in packed.iter_unpack(self._data[field.begin : end]))

    def _texts(self, field: _Field) -> Iterator[str]:
        at = field.begin
        for _ in range(field.count):
            (length,) = _U64.unpack_from(self._data, at)
            at += _U64.size + length
            yield str(self._data[at - length : at], "utf-8")

    # -- reading on

    def _skip(self, length: int) -> int:
        """Skip `length` bytes. Returns where they begin."""
        begin, self._at = self._at, self._at + length
        if self._at > self._size:
            raise ValueError(f"it ends at {self._size}, and claims {self._at} bytes")
        if self._at > len(self._data):
            raise Ended
        return begin

    def _number(self, packed: struct.Struct) -> Any:
        return packed.unpack_from(self._data, self._skip(packed.size))[0]

    def _text(self) -> str:
        length = self._number(_U64)
        begin = self._skip(length)
        return str(self._data[begin : begin + length], "utf-8")

    def _field(self) -> _Field:
        kind = self._number(_U32)
        if kind != _ARRAY:
            return self._values(kind, 1)
        kind, count = self._number(_U32), self._number(_U64)
        if kind == _ARRAY:
            raise ValueError("it has arrays in arrays, which no engine reads")
        return self._values(kind, count, is_array=True)

    def _values(self, kind: int, count: int, *, is_array: bool = False) -> _Field:
        begin = self._at
        if kind == _TEXT:
            if count > min(self._size // _U64.size, MAX_TEXTS):
                raise ValueError(f"it claims {count} texts")
            self._skip_texts(count)
        elif kind in _SCALARS:
            self._skip(count * _SCALARS[kind].size)
        else:
            raise ValueError(f"it has a value of the unknown type {kind}")
        return _Field(kind, begin, count, is_array)

    def _skip_texts(self, count: int) -> None:
        """Skip `count` texts. As fast as possible: there may be 500,000, which takes 0.1 s."""
        at, last, length_of = self._at, len(self._data) - _U64.size, _U64.unpack_from
        for _ in range(count):
            if at > last:
                break
            at += _U64.size + length_of(self._data, at)[0]
        else:
            self._skip(at - self._at)
            return
        self._skip(at + _U64.size - self._at)

    def _tensor(self) -> Tensor:
        name = self._text()
        dimensions = self._number(_U32)
        if dimensions > MAX_DIMENSIONS:
            raise ValueError(f"{name!r} has {dimensions} dimensions")
        shape = [self._number(_U64) for _ in range(dimensions)]
        kind = gguf.GGMLQuantizationType(self._number(_U32))
        block, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        num_elements = math.prod(shape)
        if num_elements % block or (shape and shape[0] % block):
            raise ValueError(f"{name!r} has rows of {shape[0]}, and its type packs {block}")
        num_bytes = num_elements // block * block_bytes
        return Tensor(name, kind.name, dimensions, num_elements, num_bytes, self._number(_U64))


def _check_offsets(tensors: list[Tensor], alignment: int) -> None:
    """Raises: ValueError if tensors have the same name, overlap, or are not aligned."""
    if len({tensor.name for tensor in tensors}) < len(tensors):
        raise ValueError("two of its tensors have the same name")
    end = 0
    for tensor in sorted(tensors, key=lambda tensor: (tensor.offset, tensor.num_bytes)):
        if tensor.offset % alignment or tensor.offset < end:
            raise ValueError(f"{tensor.name!r} lies at {tensor.offset}, in another tensor or not aligned")
        end = tensor.offset + tensor.num_bytes


def read_header(files: Files, name: str) -> Header:
    """The header of a local or remote file. Reads as much of its beginning as needed.

    Raises:
        SourceFailed: CHECKSUM, if it is damaged or cut off.
    """
    size = files.sizes[name]
    have = files.read(name, 0, len(MAGIC))
    if have != MAGIC:
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is not a GGUF file, or its beginning is damaged.")
    while len(have) < min(size, MAX_READ_BYTES):
        wanted = min(size, MAX_READ_BYTES, max(FIRST_READ_BYTES, 2 * len(have)))
        more = files.read(name, len(have), wanted - len(have))
        if not more:
            raise cut_off(name, len(have), size)
        have += more
        try:
            header = Header(have, size)
        except Ended:
            continue
        except (ValueError, struct.error) as error:
            raise SourceFailed(FailureReason.CHECKSUM, f"{name} is cut off or damaged: {error}.") from error
        if size < header.end:
            raise cut_off(name, size, header.end)
        return header
    raise SourceFailed(
        FailureReason.CHECKSUM, f"{name} is cut off or damaged: its header does not end within {len(have)} bytes."
    )


def architecture_of(header: Header, name: str) -> str:
    """Such as `llama`. Raises: SourceFailed."""
    architecture = header.get("general.architecture")
    if not isinstance(architecture, str):
        raise SourceFailed(FailureReason.CHECKSUM, f"{name} is damaged: it does not say its architecture.")
    return architecture


def footprint(files: Files, weights: Weights) -> Footprint:
    """Raises: SourceFailed."""
    (name,) = weights.files
    header = read_header(files, name)
    architecture = architecture_of(header, name)
    about = {
        key.removeprefix(f"{architecture}."): header.get(key) for key in header.names if key.startswith(architecture)
    }
    num_parameters = sum(tensor.num_elements for tensor in header.tensors)
    tensor_bytes = sum(tensor.num_bytes for tensor in header.tensors)
    return Footprint(
        format="gguf",
        weights_bytes=files.sizes[name],
        num_parameters=num_parameters,
        kv_bytes_per_token=_kv_bytes(about),
        hidden_size=int(about.get("embedding_length", 0)),
        vocabulary_size=header.count("tokenizer.ggml.tokens") or int(about.get("vocab_size", 0)),
        context_length=int(about.get("context_length", 0)),
        bits_per_weight=round(8 * tensor_bytes / num_parameters, 2) if num_parameters else 0.0,
        kv_precision="f16" if header.get("general.file_type") in FLOAT_FILES else "",
    )


def _kv_bytes(about: dict[str, Any]) -> int:
    """Bytes of the keys and values of one token in all layers; the number of heads may differ by layer."""
    layers = int(about.get("block_count", 0))
    heads = about.get("attention.head_count", 0)
    kv_heads = about.get("attention.head_count_kv", heads)
    widest = max(heads) if isinstance(heads, list) else heads
    head_size = int(about.get("embedding_length", 0)) // widest if widest else 0
    of_token = about.get("attention.key_length", head_size) + about.get("attention.value_length", head_size)
    in_all = sum(kv_heads) if isinstance(kv_heads, list) else kv_heads * layers
    return int(in_all * of_token * KV_ELEMENT_BYTES)
