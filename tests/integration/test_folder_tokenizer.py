"""The tokenizers of a GGUF file and of a safetensors folder of one model give what transformers gives for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import transformers
from tokenizers import pre_tokenizers

from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from tests.tokenizers import NASTY
from workers.tokenizers.load import load_tokenizer


@pytest.mark.filterwarnings("ignore")
def test_a_folder_and_a_gguf_file_of_one_model_are_read_as_transformers_reads_them(tmp_path: Path) -> None:
    path = load_catalog(Settings(data_dir=tmp_path)).get("smollm2-135m").path()
    assert path is not None
    folder = tmp_path / "folder"
    theirs = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    # As in the model's own tokenizer.json; of a GGUF file transformers does not read how digits are cut.
    theirs.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    theirs.save_pretrained(folder)
    for ours in (load_tokenizer(str(folder), "transformers"), load_tokenizer(str(path), "openvino")):
        for text in NASTY:
            ids = theirs(text, add_special_tokens=False).input_ids
            assert ours.encode(text) == ids, text
            assert ours.decode(ids) == text
            turns = [{"role": "user", "content": text}]
            whole = theirs.apply_chat_template(turns, add_generation_prompt=True, return_dict=False)
            assert ours.render_chat(turns) == whole, text
        assert theirs.eos_token_id in ours.eos_ids
        assert theirs.eos_token_id not in ours.encode(theirs.eos_token), "who writes it ends nothing"
