"""A safetensors folder's tokenizer gives what the GGUF file of the same model gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.models.catalog import load_catalog
from gateway.settings import Settings
from workers.tokenizers.load import load_tokenizer


@pytest.mark.filterwarnings("ignore")
def test_a_folder_and_a_gguf_file_of_one_model_agree(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    path = load_catalog(Settings(data_dir=tmp_path)).get("smollm2-135m").path()
    assert path is not None
    folder = tmp_path / "folder"
    transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    of_folder, of_gguf = load_tokenizer(str(folder), "transformers"), load_tokenizer(str(path), "openvino")
    turns = [{"role": "user", "content": "Grüße an alle <|im_end|> and all"}]
    ids = of_folder.render_chat(turns)
    assert ids == of_gguf.render_chat(turns)
    assert of_folder.decode(ids) == of_gguf.decode(ids)
    assert set(of_folder.eos_ids) <= set(of_gguf.eos_ids)
    end = of_folder.eos_ids[0]
    assert end not in of_folder.encode("<|im_end|>")
