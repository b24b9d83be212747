"""What a `source` may say, and how a wrong one is refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.models.catalog import load_catalog
from gateway.models.paths import hub_path
from gateway.settings import Settings
from schemas.sources import FolderRef, HubRef, PackageRef, parse_source

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.mark.parametrize(
    ("text", "ref"),
    [
        ("", None),
        ("/models/qwen", FolderRef("/models/qwen")),
        ("models/qwen.gguf", FolderRef("models/qwen.gguf")),
        ("./odd:name", FolderRef("./odd:name")),
        ("package:llm/model.gguf", PackageRef("llm", "model.gguf")),
        ("package:llm", PackageRef("llm")),
        (f"hub:org/name@{COMMIT}", HubRef("org", "name", COMMIT)),
        (f"hub:org/name.v2@{COMMIT}/q4/model.gguf", HubRef("org", "name.v2", COMMIT, "q4/model.gguf")),
    ],
)
def test_each_kind_is_read(text: str, ref: object) -> None:
    assert parse_source(text) == ref


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hub:org/name", "names no revision.* pin a commit: hub:org/name@"),
        ("hub:org/name@main", "'main' is a branch, a tag or a short hash"),
        (f"hub:org/name@{COMMIT[:7]}", "short hash"),
        (f"hub:name@{COMMIT}", "'name' is not a repository"),
        (f"hub:org/../x@{COMMIT}", "is not a repository"),
        (f"hub:org/name@{COMMIT}/../x", "'../x' is not a plain relative path"),
        ("package:a.b/c", "is not a package's import name"),
        ("package:llm//etc/passwd", "is not a plain relative path"),
        ("https://example.org/model", "no kind of source 'https'; write a path, package:NAME/FILE"),
        ("a\nb", "line break"),
        ("/models/x/model.safetensors", "name its folder"),
        (f"hub:org/name@{COMMIT}/openvino_model.xml", "name its folder. Only a GGUF file is a model by itself"),
    ],
)
def test_a_wrong_one_is_refused_with_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        parse_source(text)


def test_the_catalog_names_the_line_of_a_wrong_source(tmp_path: Path) -> None:
    settings = Settings(config=tmp_path / "headrace.toml", data_dir=tmp_path)
    settings.config.write_text('[models.x]\ncapabilities = ["chat"]\nsource = "hub:org/name@main"\n')
    (problem,) = load_catalog(settings).problems
    assert re.search(r"line 3, column 1: models.x.source: Got 'hub:org/name@main': .*pin a commit", str(problem))


def test_a_hub_model_can_be_deployed_before_its_weights_are_here(tmp_path: Path) -> None:
    settings = Settings(config=tmp_path / "headrace.toml", data_dir=tmp_path)
    source = f"hub:org/name@{COMMIT}/model.gguf"
    settings.config.write_text(f'[models.x]\ncapabilities = ["chat"]\nsource = "{source}"\nengine = "openvino"\n')
    model = load_catalog(settings).get("x")
    assert model.downloadable
    assert not model.has_weights
    assert model.path() is None
    ref = parse_source(source)
    assert isinstance(ref, HubRef)
    path = hub_path(tmp_path / "models", ref, ("gguf", "openvino"))
    path.parent.mkdir(parents=True)
    path.touch()
    assert model.has_weights
    assert model.path() == path
