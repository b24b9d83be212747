"""Which format a set of file names is, and which sets are refused."""

from __future__ import annotations

import pytest

from gateway.deployments.reasons import FailureReason, SourceFailed
from workers.formats.detect import Weights, detect, needed

INDEX = "model.safetensors.index.json"
SHARDS = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
IR = ["openvino_model.xml", "openvino_model.bin"]


@pytest.mark.parametrize(
    ("names", "format", "files"),
    [
        (["config.json", "model.safetensors"], "safetensors", ["model.safetensors"]),
        ([*SHARDS, INDEX], "safetensors", SHARDS),
        (["model.safetensors", "consolidated.safetensors"], "safetensors", ["model.safetensors"]),
        ([*IR, "openvino_tokenizer.xml", "openvino_tokenizer.bin"], "openvino", ["openvino_model.bin"]),
        (["model.safetensors", "pytorch_model.bin"], "safetensors", ["model.safetensors"]),
    ],
)
def test_a_format_is_told_from_the_names(names: list[str], format: str, files: list[str]) -> None:
    found = detect(names)
    assert (found.format, list(found.files)) == (format, files)


def test_a_gguf_file_is_a_model_by_itself() -> None:
    assert detect(["a.gguf"], is_file=True) == Weights("gguf", ["a.gguf"])
    with pytest.raises(SourceFailed, match="one of 3 parts") as caught:
        detect(["a-00001-of-00003.gguf"], is_file=True)
    assert caught.value.reason is FailureReason.UNSUPPORTED_ARCHITECTURE
    with pytest.raises(SourceFailed, match=r"model\.pth may run code") as caught:
        detect(["model.pth"], is_file=True)
    assert caught.value.reason is FailureReason.UNSAFE_FILE


def test_the_format_that_the_engine_reads_is_taken() -> None:
    names = ["model.safetensors", *IR, "a.gguf"]
    assert detect(names).format == "safetensors"
    assert detect(names, readable=("gguf", "openvino")).format == "openvino"
    assert detect(names[:1], readable=("gguf", "openvino")).format == "safetensors"


@pytest.mark.parametrize(
    ("names", "reason", "says"),
    [
        (["pytorch_model.bin", "config.json"], FailureReason.UNSAFE_FILE, "pytorch_model.bin may run code when read"),
        (["model.pth"], FailureReason.UNSAFE_FILE, "allowed: safetensors, openvino, gguf"),
        ([], FailureReason.MISSING_FILE, "no model.safetensors"),
        (["sub/model.safetensors"], FailureReason.MISSING_FILE, "no model.safetensors"),
        (["adapter_model.safetensors"], FailureReason.MISSING_FILE, "an adapter alone is no model"),
        (["a.gguf", "b.gguf"], FailureReason.MISSING_FILE, "name it at the end of the source: a.gguf, b.gguf"),
        (["a.gguf"], FailureReason.MISSING_FILE, "A GGUF file is a model by itself"),
        ([SHARDS[1], INDEX], FailureReason.MISSING_FILE, "no model-00001-of-00002.safetensors"),
        (SHARDS, FailureReason.MISSING_FILE, f"no {INDEX}"),
        (IR[:1], FailureReason.MISSING_FILE, "no openvino_model.bin beside it"),
    ],
)
def test_what_can_not_be_read_is_refused(names: list[str], reason: FailureReason, says: str) -> None:
    with pytest.raises(SourceFailed, match=says) as caught:
        detect(names)
    assert caught.value.reason is reason


def test_code_pickles_and_other_formats_are_not_among_the_files_that_are_fetched() -> None:
    names = {*IR, "pytorch_model.bin", "modeling_x.py", "x.onnx", "config.json", "merges.txt", "model.safetensors"}
    described = ["config.json", "merges.txt"]
    assert needed(names, detect(names)) == [*described, "model.safetensors"]
    assert needed(names, detect(names, readable=["openvino"])) == [*described, *sorted(IR)]


def test_folders_are_fetched_for_sentence_encoders_only() -> None:
    names = ["model.safetensors", "config.json", "1_Pooling/config.json", "1_Pooling/x.bin"]
    assert needed(names, detect(names)) == ["config.json", "model.safetensors"]
    names.append("modules.json")
    assert needed(names, detect(names)) == ["1_Pooling/config.json", "config.json", "model.safetensors", "modules.json"]
