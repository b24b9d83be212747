"""Models with anything in headers, descriptions, cards and names: a proposal that the catalog takes, or one line."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.cluster.registry import Device
from gateway.deployments.reasons import SourceFailed
from gateway.models.engines import SPECS
from gateway.models.names import parse_name
from gateway.settings import Settings
from schemas.catalog import ModelEntrySchema
from tests.fuzz.budget import budget
from tests.fuzz.test_model_files import InMemory, damaged, json_values
from tests.hub_server import HubServer
from tests.named_models import save_gguf, save_safetensors
from workers.lookup.choose import choices
from workers.lookup.look_up import look_up
from workers.lookup.places import Place
from workers.lookup.propose import propose, valid_id
from workers.sources.card import read_license

CPU = Device("agent", "n1", "cpu0", 1, memory_total=8 << 30, memory_free=8 << 30, engines=tuple(SPECS))
FIELDS = ("architectures", "model_type", "quantization_config", "vision_config", "text_config", "hidden_size", "dtype")
FIELDS += ("max_position_embeddings", "num_hidden_layers", "vocab_size", "layer_types", "auto_map")
TOLD = ("model_max_length", "chat_template", "max_seq_length", "model", "decoder", "added_tokens", "model_type")


def proposed_or_refused(title: str, contents: Mapping[str, bytes]) -> None:
    """The invariant."""

    def open_files(path: str) -> InMemory:
        if path in contents:
            return InMemory({path.rpartition("/")[2]: contents[path]}, is_file=True)
        within = f"{path}/" if path else ""
        return InMemory({name.removeprefix(within): text for name, text in contents.items() if name.startswith(within)})

    sizes = {name: len(content) for name, content in contents.items()}
    place = Place(title, sizes, open_files, lambda path: f"/models/{path}")
    try:
        found = propose(place, choices(place, CPU, "", 32))
    except SourceFailed as error:
        assert len(error.message) < 5000
        return
    ModelEntrySchema().load({"id": found.id, **found.entry})
    json.dumps(found.to_public(), allow_nan=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    path = save_safetensors(tmp_path_factory.mktemp("right"), card="license: mit")
    return {file.name: file.read_bytes() for file in path.iterdir()}


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_gguf(tmp_path_factory.mktemp("right") / "a.gguf").read_bytes()


@budget(20)
@given(data=st.data())
def test_a_folder_with_anything_in_its_descriptions(folder: dict[str, bytes], data: st.DataObject) -> None:
    contents = dict(folder)
    for name, fields in (("config.json", FIELDS), ("tokenizer_config.json", TOLD), ("tokenizer.json", TOLD)):
        told = json.loads(contents[name])
        told |= data.draw(st.dictionaries(st.sampled_from(fields), json_values, max_size=3))
        contents[name] = json.dumps(told).encode()
    if data.draw(st.booleans()):
        name = data.draw(st.sampled_from(["modules.json", "sentence_bert_config.json", "1_Pooling/config.json"]))
        contents[name] = json.dumps(data.draw(json_values)).encode()
    proposed_or_refused("model", contents)


@budget(20)
@given(data=st.data())
def test_a_file_with_anything_in_its_header(gguf_file: bytes, data: st.DataObject) -> None:
    proposed_or_refused("file", {"a.gguf": data.draw(damaged(gguf_file))})


@budget(50)
@given(
    title=st.text(max_size=300),
    names=st.lists(
        st.text(min_size=1, max_size=30) | st.sampled_from(["model.safetensors", "Q4_K_M.gguf"]), max_size=5
    ),
)
def test_a_place_with_any_names(title: str, names: list[str]) -> None:
    proposed_or_refused(title, dict.fromkeys(names, b"GGUF" * 8))
    ModelEntrySchema(only=["id"]).load({"id": valid_id(title)})


@budget(50)
@given(text=st.text(max_size=200))
def test_any_name_means_something_or_is_refused_in_one_line(text: str) -> None:
    try:
        parse_name(text)
    except ValueError as error:
        assert len(str(error)) < 1000


@budget(20)
@given(card=st.text(max_size=200) | st.lists(st.sampled_from(["license: ", "[", "{", "&a ", "*a", "- ", "\n", "mit"])))
def test_a_card_with_anything_in_it(tmp_path_factory: pytest.TempPathFactory, card: str | list[str]) -> None:
    readme = tmp_path_factory.getbasetemp() / "README.md"
    readme.write_text(f"---\n{''.join(card)}\n---\ntext", errors="replace")
    license = read_license(readme)
    assert license.isprintable()
    assert len(license) <= 100


@budget(10)
@given(body=json_values)
def test_a_hub_that_answers_anything(body: Any) -> None:
    hub = HubServer()
    with pytest.MonkeyPatch.context() as patch, hub.running():
        patch.setenv("HF_ENDPOINT", hub.url)
        hub.repositories.clear()
        hub.listing = json.dumps(body).encode()
        with pytest.raises(SourceFailed) as caught:
            look_up("org/name", settings=Settings(data_dir=Path("/nowhere")), device=CPU)
    assert caught.value.message.isprintable()
