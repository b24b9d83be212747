"""What real small files of each format say of the model's size, and what is said of damaged ones."""

from __future__ import annotations

import json
import os
from pathlib import Path

import openvino
import pytest

from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.catalog import load_catalog
from gateway.models.footprint import Footprint
from gateway.settings import Settings
from tests.model_files import CONFIG, KV_BYTES, write_gguf, write_openvino, write_safetensors
from workers.formats.files import LocalFiles
from workers.formats.gguf import read_header
from workers.sources.model_footprint import footprint_of, read_footprint

SHAPE = {"kv_bytes_per_token": KV_BYTES, "hidden_size": 32, "vocabulary_size": 100, "context_length": 128}


class Elsewhere(LocalFiles):
    """Files that can only be read in pieces, as those on the hub."""

    def path(self, name: str) -> None:
        return None


def refusal_of(path: Path) -> SourceFailed:
    with pytest.raises(SourceFailed) as caught:
        read_footprint(path)
    return caught.value


def test_a_safetensors_folder(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path, shards=2, size=64)
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    assert read_footprint(folder) == Footprint(
        "safetensors", sum(sizes), num_parameters=4 * 64 * 64, bits_per_weight=24.0, **SHAPE
    )


@pytest.mark.parametrize("kind", [LocalFiles, Elsewhere])
def test_a_gguf_file(tmp_path: Path, kind: type[LocalFiles], monkeypatch: pytest.MonkeyPatch) -> None:
    # Small, so that the header is longer than the first piece.
    monkeypatch.setattr("workers.formats.gguf.FIRST_READ_BYTES", 4096)
    path = write_gguf(tmp_path / "a.gguf", tokens=10_000, size=64)
    wanted = Footprint("gguf", path.stat().st_size, num_parameters=2 * 64 * 64, bits_per_weight=20.25, **SHAPE)
    assert footprint_of(kind(path)) == Footprint(**{**vars(wanted), "vocabulary_size": 10_000})


@pytest.mark.parametrize("config", [True, False])
def test_an_openvino_folder(tmp_path: Path, config: bool) -> None:
    folder = write_openvino(tmp_path, size=64, config=config)
    size = (folder / "openvino_model.bin").stat().st_size
    assert size >= 64 * 64 * 4
    assert read_footprint(folder) == Footprint(
        "openvino",
        size,
        num_parameters=64 * 164,
        outer_parameters=64 * 100,
        bits_per_weight=32.0,
        kv_bytes_per_token=2 * 8 * 2,
        vocabulary_size=100,
        hidden_size=32 if config else 0,
        context_length=128 if config else 0,
    )


@pytest.mark.parametrize(("file_type", "kept_in"), [(0, "f16"), (1, "f16"), (7, "")])
def test_openvino_keeps_16_bits_of_gguf_files_of_floats(tmp_path: Path, file_type: int, kept_in: str) -> None:
    assert read_footprint(write_gguf(tmp_path / "a.gguf", file_type=file_type)).kv_precision == kept_in


@pytest.mark.parametrize(("asked", "kept_in"), [("f16", "f16"), ("u8", "u8"), ("f" * 1000, "")])
def test_a_graph_may_ask_for_a_type_of_keys_and_values(tmp_path: Path, asked: str, kept_in: str) -> None:
    model = openvino.Core().read_model(write_openvino(tmp_path / "a") / "openvino_model.xml")
    model.set_rt_info(asked, ["runtime_options", "KV_CACHE_PRECISION"])
    openvino.save_model(model, tmp_path / "openvino_model.xml", compress_to_fp16=False)
    assert read_footprint(tmp_path).kv_precision == kept_in


#: Architectures that keep keys and values in different ways, by what they add to CONFIG.
CACHES: dict[str, dict[str, object]] = {
    "Llama": {},
    "Qwen3": {"head_dim": 16},
    "Gemma3Text": {"head_dim": 16, "sliding_window": 64},
    "Gemma4Text": {
        "num_hidden_layers": 12,
        "num_kv_shared_layers": 6,
        "head_dim": 16,
        "global_head_dim": 32,
        "vocab_size_per_layer_input": 10,
        "hidden_size_per_layer_input": 4,
    },
    "GPT2": {"num_key_value_heads": None, "n_layer": 3, "n_embd": 32, "n_head": 4},
    "GPTBigCode": {"num_key_value_heads": None, "n_layer": 3, "n_embd": 32, "n_head": 4, "multi_query": True},
    "Falcon": {"num_key_value_heads": None, "multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 2},
    "DeepseekV3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_nope_head_dim": 8,
        "qk_rope_head_dim": 4,
        "v_head_dim": 8,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "n_group": 1,
        "topk_group": 1,
        "moe_intermediate_size": 16,
    },
    "Lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("architecture", CACHES)
def test_keys_and_values_are_as_many_as_the_real_model_keeps(tmp_path: Path, architecture: str) -> None:
    import torch
    import transformers

    plain = {name: value for name, value in CONFIG.items() if name not in ("model_type", "architectures")}
    config = getattr(transformers, f"{architecture}Config")(**{**plain, **CACHES[architecture]})
    model = transformers.AutoModelForCausalLM.from_config(config).to(torch.bfloat16).eval()
    model.save_pretrained(tmp_path)
    cache = model(torch.tensor([[1, 2, 3, 4]]), use_cache=True).past_key_values
    kept = [getattr(layer, name, None) for layer in cache.layers for name in ("keys", "values")]
    footprint = read_footprint(tmp_path)
    assert 4 * footprint.kv_bytes_per_token == sum(tensor.nbytes for tensor in kept if tensor is not None) > 0
    saved = sum(p.numel() for p in model.parameters())
    assert saved <= footprint.num_parameters <= 1.01 * saved
    outer = {id(layer.weight): layer.weight for layer in (model.get_input_embeddings(), model.get_output_embeddings())}
    assert footprint.outer_parameters == sum(weight.numel() for weight in outer.values())
    assert footprint.bits_per_weight == pytest.approx(16, abs=0.1)


@pytest.mark.parametrize(
    "config",
    [{"architectures": ["BertModel"]}, {"architectures": ["MambaForCausalLM"], "layer_types": ["linear_attention"]}],
)
def test_models_without_a_cache_take_none(tmp_path: Path, config: dict[str, object]) -> None:
    assert read_footprint(write_safetensors(tmp_path, **config)).kv_bytes_per_token == 0


@pytest.mark.parametrize(
    "said",
    [
        {"quant_method": "gptq", "bits": 4},
        {"quant_method": "awq", "w_bit": 4},
        {"quant_method": "bitsandbytes", "load_in_4bit": True},
        {"quant_method": "compressed-tensors", "config_groups": {"0": {"weights": {"num_bits": 4}}, "1": {}}},
    ],
)
def test_packed_weights_are_counted_one_by_one(tmp_path: Path, said: dict[str, object]) -> None:
    import numpy
    from safetensors.numpy import save_file

    write_safetensors(tmp_path, quantization_config=said)
    save_file({"qweight": numpy.zeros((8, 64), numpy.int32)}, tmp_path / "model.safetensors")
    footprint = read_footprint(tmp_path)
    assert (footprint.num_parameters, footprint.bits_per_weight) == (8 * 64 * 8, 4.0)


def test_a_model_that_brings_its_own_code_is_refused(tmp_path: Path) -> None:
    error = refusal_of(write_safetensors(tmp_path, auto_map={"AutoModelForCausalLM": "modeling_x.X"}))
    assert error.reason is FailureReason.UNSUPPORTED_ARCHITECTURE
    assert "auto_map" in error.message


def test_missing_files_are_named(tmp_path: Path) -> None:
    assert refusal_of(tmp_path / "none").reason is FailureReason.MISSING_FILE
    folder = write_safetensors(tmp_path / "folder")
    (folder / "config.json").unlink()
    error = refusal_of(folder)
    assert (error.reason, error.message) == (FailureReason.MISSING_FILE, "There is no config.json.")


@pytest.mark.parametrize("keep", [0, 3, 7, 100, 300, -1])
@pytest.mark.parametrize("format", ["safetensors", "gguf", "openvino"])
def test_a_file_that_is_cut_off_is_noticed(tmp_path: Path, format: str, keep: int) -> None:
    write = {
        "safetensors": lambda: write_safetensors(tmp_path) / "model.safetensors",
        "gguf": lambda: write_gguf(tmp_path / "a.gguf"),
        "openvino": lambda: write_openvino(tmp_path) / "openvino_model.bin",
    }
    path = write[format]()
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    assert refusal_of(tmp_path / "a.gguf" if format == "gguf" else tmp_path).reason is FailureReason.CHECKSUM


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"{"),
        ("config.json", b"[]"),
        ("config.json", b'{"num_hidden_layers": "many"}'),
        ("model.safetensors", (5).to_bytes(8, "little") + b"[1,2]"),
        ("model.safetensors", b"not a safetensors file"),
    ],
)
def test_headers_that_make_no_sense_are_damaged_files(tmp_path: Path, name: str, content: bytes) -> None:
    write_safetensors(tmp_path)
    (tmp_path / name).write_bytes(content)
    assert refusal_of(tmp_path).reason is FailureReason.CHECKSUM


def test_text_parts_of_larger_models_are_read(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path)
    (folder / "config.json").write_text(
        json.dumps({"architectures": ["XForConditionalGeneration"], "text_config": CONFIG})
    )
    assert read_footprint(folder).kv_bytes_per_token == KV_BYTES


def test_a_real_gguf_file_reads_as_the_package_reads_it() -> None:
    import gguf

    path = load_catalog(Settings.load({})).get("smollm2-135m").path()
    assert path is not None
    reader, header = gguf.GGUFReader(path), read_header(LocalFiles(path), path.name)
    fields = {name: field.contents() for name, field in reader.fields.items() if not name.startswith("GGUF.")}
    assert header.names == list(fields)
    assert {name: header.get(name) for name in header.names} == fields
    assert [(t.name, header.data_offset + t.offset, t.num_bytes, t.num_elements) for t in header.tensors] == [
        (t.name, t.data_offset, t.n_bytes, t.n_elements) for t in reader.tensors
    ]
    footprint = read_footprint(path)
    assert footprint.vocabulary_size == len(reader.fields["tokenizer.ggml.tokens"].data)
    assert footprint == footprint_of(Elsewhere(path))


def test_parts_are_those_that_the_index_names_whatever_they_are_called(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path, shards=2)
    index = folder / "model.safetensors.index.json"
    wanted = read_footprint(folder)
    for i in (1, 2):
        old, new = f"model-{i:05}-of-00002.safetensors", f"model.safetensors-{i:05}-of-00002.safetensors"
        (folder / old).rename(folder / new)
        index.write_text(index.read_text().replace(old, new))
    assert read_footprint(folder) == wanted
    (folder / new).unlink()
    assert (refusal_of(folder).reason, new in refusal_of(folder).message) == (FailureReason.MISSING_FILE, True)


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("{}", FailureReason.CHECKSUM),
        ('{"weight_map": {"a": 5}}', FailureReason.CHECKSUM),
        ('{"weight_map": {}}', FailureReason.CHECKSUM),
        ("[" * 100_000, FailureReason.CHECKSUM),
        ('{"weight_map": {"a": "../../secret.safetensors"}}', FailureReason.UNSAFE_FILE),
        ('{"weight_map": {"a": "pytorch_model.bin"}}', FailureReason.UNSAFE_FILE),
        ('{"weight_map": {"a": "other.safetensors"}}', FailureReason.MISSING_FILE),
    ],
)
def test_an_index_that_makes_no_sense_is_refused(tmp_path: Path, index: str, reason: FailureReason) -> None:
    folder = write_safetensors(tmp_path, shards=2)
    (folder / "model.safetensors.index.json").write_text(index)
    assert refusal_of(folder).reason is reason


def test_tensors_that_share_bytes_or_lie_elsewhere_are_refused(tmp_path: Path) -> None:
    path = write_safetensors(tmp_path) / "model.safetensors"
    whole = path.read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    for offsets in ([0, 8192], [-8192, 0], [8192, 0], [0, 1 << 70]):
        changed = json.dumps({**header, "b.1": {**header["b.1"], "data_offsets": offsets}}).encode()
        path.write_bytes(len(changed).to_bytes(8, "little") + changed + whole[8 + length :])
        assert refusal_of(tmp_path).reason is FailureReason.CHECKSUM, offsets


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path)
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    (folder / "nowhere.json").symlink_to(folder / "gone")
    assert refusal_of(folder).reason is FailureReason.MISSING_FILE


@pytest.mark.parametrize("name", ["num_hidden_layers", "hidden_size", "max_position_embeddings", "vocab_size"])
@pytest.mark.parametrize("value", [10**9 * 10**9, 10**30, -5, "many", [1], float("inf")])
def test_numbers_that_no_model_has_are_refused(tmp_path: Path, name: str, value: object) -> None:
    folder = write_safetensors(tmp_path, **{name: value})
    if (name, value) == ("max_position_embeddings", -5):
        assert read_footprint(folder).context_length == 0
    else:
        assert refusal_of(folder).reason is FailureReason.CHECKSUM
