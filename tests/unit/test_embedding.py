"""How long the inputs of an embedding job may be, by the entry of its model, and by the model's files."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from gateway.errors import ContextTooLong
from gateway.jobs.record import Job, JobState, new_job_id
from gateway.models.catalog import Catalog, load_catalog
from gateway.models.footprint import UNSTATED_CONTEXT
from gateway.settings import Settings
from workers.handlers.embeddings import Embedding
from workers.tokenizers.encoder import SETTINGS, EncoderTokenizer


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return load_catalog(Settings(config=tmp_path / "none.toml", data_dir=tmp_path))


@pytest.fixture
def folder(catalog: Catalog, tmp_path: Path) -> Path:
    """What the tokenizer of the demo encoder reads: 512 positions, and settings that say 256."""
    source = catalog.get("all-minilm-l6-v2").path()
    assert source is not None
    for name in ("tokenizer.json", "config.json", SETTINGS[0]):
        shutil.copy(source / name, tmp_path)
    return tmp_path


def job(text: str, **body: object) -> Job:
    return Job(new_job_id("embedding"), JobState.RUNNING, "embedding", "a", "key", {"input": ["a", text], **body})


@pytest.mark.parametrize(("context_length", "settings", "most"), [(0, True, 256), (0, False, 512), (100, True, 100)])
def test_an_input_is_cut_or_refused_at_the_least_of_what_is_said(
    catalog: Catalog, folder: Path, context_length: int, settings: bool, most: int
) -> None:
    entry = replace(catalog.get("all-minilm-l6-v2"), id="unlisted")
    entry = replace(entry, context_length=context_length)
    if not settings:
        (folder / SETTINGS[0]).unlink()
    embedding = Embedding(EncoderTokenizer(folder), entry, catalog, context_length=context_length or UNSTATED_CONTEXT)
    cut = embedding.prepare(job("word " * 600, truncate=True), None)
    assert cut.usage()["prompt_tokens"] == 3 + most
    fits = embedding.prepare(job("word " * (most - 2)), None)
    assert fits.usage() == cut.usage()
    with pytest.raises(ContextTooLong, match=rf"^input\[1\] has {most + 1} tokens, but unlisted takes {most} at most"):
        embedding.prepare(job("word " * (most - 1)), None)
