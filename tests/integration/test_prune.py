"""`headrace models prune`: what no model names and no process has open goes, all else stays."""

from __future__ import annotations

import json
import mmap
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from gateway.cluster.desired import Desired, ReplicaSpec
from gateway.models.catalog_store import Added, CatalogStore
from gateway.models.paths import hub_folder
from gateway.store.connection import connect
from schemas.sources import HubRef
from tests.commands import Command, Said, run
from tests.hub_server import HubServer
from tests.model_files import write_safetensors
from tests.stack import PATIENCE_S, Stack
from tests.terminals import on_a_terminal, read_until
from workers.sources.base import never, no_progress
from workers.sources.hub import Hub

ENGINE = {"capabilities": ["chat"], "engine": "fake"}


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    """Redis, and nothing that runs over it."""
    with closing(Stack(tmp_path / "s")) as stack:
        stack.start_redis()
        stack.redis = connect(stack.settings)
        yield stack


def fetched(hub: HubServer, stack: Stack, name: str) -> HubRef:
    """A repository of that name, which is downloaded."""
    repository = hub.add(f"org/{name}", write_safetensors(stack.folder / "published" / name, size=16))
    ref = HubRef("org", name, repository.revision)
    Hub(ref, stack.folder / "models").fetch(on_progress=no_progress, is_cancelled=never, log=print)
    assert folder_of(stack, ref).exists()
    return ref


def folder_of(stack: Stack, ref: HubRef) -> Path:
    return hub_folder(stack.folder / "models", ref)


def source(ref: HubRef) -> str:
    return f"hub:{ref.repository}@{ref.revision}"


def prune(stack: Stack, *words: str) -> Said:
    environ = {**os.environ, **stack.settings.environ()}
    (said,) = run([Command(("models", "prune", *words))], environ)
    return said


def test_what_nothing_names_is_removed_and_all_else_stays(stack: Stack, model_hub: HubServer) -> None:
    old, named, disabled, opened = (fetched(model_hub, stack, name) for name in ("old", "named", "off", "open"))
    CatalogStore(stack.redis).add("mine", Added({**ENGINE, "source": source(named)}))
    text = f'[models.off]\ncapabilities = ["chat"]\nengine = "fake"\nsource = "{source(disabled)}"\nenabled = false\n'
    stack.settings.config.write_text(text)
    elsewhere = stack.folder / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "weights").write_text("mine")
    models = stack.folder / "models"
    (models / f"org--link@{'a' * 40}").symlink_to(elsewhere)
    (models / "own folder").mkdir()
    (models / ".partial" / f"org--half@{'b' * 40}" / "files").mkdir(parents=True)
    (models / ".partial" / f"org--half@{'b' * 40}" / "files" / "x.part").write_bytes(b"x" * 1000)
    file = next(path for path in folder_of(stack, opened).rglob("*.safetensors"))
    with file.open("rb") as stream, mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ):
        dry = json.loads(prune(stack, "--dry-run", "--older-than", "0m", "--json").stdout)
        assert [one["name"].split("@")[0] for one in dry["would_remove"]] == ["org/half", "org/old"]
        assert dry["size_bytes"] > 1_000 + 6 * 16 * 16
        assert folder_of(stack, old).exists()
        done = prune(stack, "--yes", "--older-than", "0m")
    assert (done.status, "removed 2 downloads of" in done.stdout) == (0, True), done
    assert not folder_of(stack, old).exists()
    for ref in (named, disabled, opened):
        assert Hub(ref, models).present()
    assert (elsewhere / "weights").read_text() == "mine"
    assert sorted(path.name for path in models.iterdir() if "@" not in path.name) == ["own folder"]
    again = prune(stack, "--yes", "--older-than", "0m")
    assert "removed 1 downloads of" in again.stdout, "nobody has it open any more"
    assert prune(stack, "--yes", "--older-than", "0m").stdout == "nothing to remove\n"


def test_what_was_just_written_stays(stack: Stack, model_hub: HubServer) -> None:
    """Its model may be about to be added."""
    ref = fetched(model_hub, stack, "new")
    assert prune(stack, "--yes").stdout == "nothing to remove\n"
    assert folder_of(stack, ref).exists()


def test_it_asks_before_it_removes(stack: Stack, model_hub: HubServer) -> None:
    ref = fetched(model_hub, stack, "old")
    for words in ((), ("--json",)):
        said = prune(stack, "--older-than", "0m", *words)
        assert (said.status, "There is nobody to ask: give --yes, or --dry-run" in said.stderr) == (2, True)
    assert prune(stack, "--older-than", "soon", "--yes").status == 2
    assert folder_of(stack, ref).exists()


def test_what_is_named_while_it_asks_stays(stack: Stack, model_hub: HubServer) -> None:
    old, wanted = (fetched(model_hub, stack, name) for name in ("old", "wanted"))
    words = ("models", "prune", "--older-than", "0m")
    with on_a_terminal(*words, environ={**os.environ, **stack.settings.environ()}) as (process, terminal):
        read_until(terminal, "Remove 2 downloads of")
        CatalogStore(stack.redis).add("mine", Added({**ENGINE, "source": source(wanted)}))
        os.write(terminal, b"y\n")
        read_until(terminal, "removed 1 downloads of")
        assert process.wait(PATIENCE_S) == 0
    assert (folder_of(stack, old).exists(), folder_of(stack, wanted).exists()) == (False, True)


def test_nothing_is_removed_where_it_can_not_be_told_what_is_in_use(stack: Stack, model_hub: HubServer) -> None:
    ref = fetched(model_hub, stack, "old")
    Desired(stack.redis).put(ReplicaSpec("gone.n1.cpu0", "gone", "n1", "cpu0"))
    said = prune(stack, "--older-than", "0m", "--yes")
    assert (said.status, "gone is served and not in the catalog. Unload it first" in said.stderr) == (1, True)
    Desired(stack.redis).drop(Desired(stack.redis).all())
    stack.settings.config.write_text("[models.odd]\ncapabilities = 7\n")
    said = prune(stack, "--older-than", "0m", "--yes")
    assert (said.status, "The catalog has mistakes" in said.stderr) == (1, True)
    stack.kill("redis")
    assert "does not answer" in prune(stack, "--older-than", "0m", "--yes").stderr
    assert folder_of(stack, ref).exists()
