"""Sources whose files are on this machine: folders, packages, and engines that need none."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from gateway.deployments.reasons import FailureReason
from gateway.models.catalog import load_catalog
from gateway.models.entry import Model
from gateway.models.footprint import Footprint
from gateway.settings import Settings
from tests.model_files import write_safetensors
from workers.sources import source_of
from workers.sources.base import SourceFailed, keep_quiet, never, no_progress

MODEL = Model("m", "M", "", "1", ("chat",), engine="transformers")


def fetch(source: object) -> Path:
    return source.fetch(on_progress=no_progress, is_cancelled=never, log=keep_quiet)  # type: ignore[attr-defined]


def test_an_engine_without_weights_has_nothing_to_fetch() -> None:
    source = source_of(replace(MODEL, engine="fake"), Settings())
    assert source.inspect() == Footprint()
    assert source.present()
    assert fetch(source) == Path()
    source.discard()


def test_a_folder_is_used_where_it_is(tmp_path: Path) -> None:
    folder = write_safetensors(tmp_path / "model")
    source = source_of(replace(MODEL, source=str(folder)), Settings())
    heard: list[tuple[int, int]] = []
    lines: list[str] = []
    path = source.fetch(on_progress=lambda *n: heard.append(n), is_cancelled=never, log=lines.append)
    size = (folder / "model.safetensors").stat().st_size
    assert (path, heard) == (folder, [(size, size)])
    assert f"{size} bytes of safetensors" in lines[0]
    source.discard()
    assert source.present()
    with pytest.raises(SourceFailed) as caught:
        source.fetch(on_progress=no_progress, is_cancelled=lambda: True, log=keep_quiet)
    assert caught.value.reason is FailureReason.CANCELLED
    (folder / "model.safetensors").unlink()
    assert not source.present()


def test_an_installed_package_is_found_without_being_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_safetensors(tmp_path / "some_weights" / "model")
    (tmp_path / "some_weights" / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    source = source_of(replace(MODEL, source="package:some_weights/model"), Settings())
    assert source.inspect().format == "safetensors"
    assert fetch(source) == tmp_path / "some_weights" / "model"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("package:not_installed_at_all/x", "package not_installed_at_all is not installed"),
        ("", "m has no source. Set its `source`"),
        ("hub:a/b@main", "pin a commit"),
        ("/nowhere/at/all", "There is no /nowhere/at/all"),
    ],
)
def test_what_is_not_there_is_a_missing_file(source: str, says: str) -> None:
    with pytest.raises(SourceFailed, match=says) as caught:
        fetch(source_of(replace(MODEL, source=source), Settings()))
    assert caught.value.reason is FailureReason.MISSING_FILE


def test_the_demo_models_can_be_read() -> None:
    catalog = load_catalog(Settings.load({}))
    for model_id, format in (("smollm2-135m", "gguf"), ("all-minilm-l6-v2", "safetensors")):
        assert source_of(catalog.get(model_id), Settings()).inspect().format == format
