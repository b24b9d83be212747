"""The catalog in Redis: what one machine's file or a call of the API says, all machines know."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import redis

from gateway.errors import Conflict, ModelNotFound
from gateway.models import catalog as catalog_module
from gateway.models.catalog import load_catalog
from gateway.models.catalog_store import Added, CatalogStore
from gateway.settings import Settings
from gateway.store import keys

ADDED = Added({"capabilities": ["chat"], "engine": "fake", "max_tokens": 7}, {"license": "mit"}, "some/name", 1, "k")


@pytest.fixture(autouse=True)
def look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(catalog_module, "LOOK_S", -1.0)


@pytest.fixture
def machine(tmp_path: Path, settings: Settings) -> Settings:
    """The one with the file."""
    folder = tmp_path / "one"
    return replace(settings, node="one", data_dir=folder, config=folder / "headrace.toml")


@pytest.fixture
def other(tmp_path: Path, settings: Settings) -> Settings:
    """One without."""
    folder = tmp_path / "two"
    return replace(settings, node="two", data_dir=folder, config=folder / "headrace.toml")


def write(settings: Settings, text: str) -> None:
    settings.config.parent.mkdir(exist_ok=True)
    settings.config.write_text(text)


def test_what_is_added_is_known_at_once_wherever_it_is_asked_for(redis_client: redis.Redis, other: Settings) -> None:
    there, store = load_catalog(other, redis_client), CatalogStore(redis_client)
    with pytest.raises(ModelNotFound):
        there.get("team/new")
    store.add("team/new", ADDED)
    assert there.get("team/new").max_tokens == 7
    assert (added := there.sources.added("team/new"))
    assert added.facts == {"license": "mit"}
    with pytest.raises(Conflict, match="was added before"):
        store.add("team/new", ADDED)
    store.change("team/new", replace(ADDED, table={**ADDED.table, "max_tokens": 8}))
    assert there.get("team/new").max_tokens == 8
    assert store.remove("team/new")
    assert not store.remove("team/new")
    with pytest.raises(ModelNotFound):
        there.get("team/new")


def test_what_can_not_be_read_is_left_out_alone(redis_client: redis.Redis, other: Settings) -> None:
    store = CatalogStore(redis_client)
    store.add("right", ADDED)
    store.add("wrong", replace(ADDED, table={"capabilities": ["fly"]}))
    redis_client.hset(keys.CATALOG, "broken", b"{")
    redis_client.hset(keys.CATALOG, "odd", '{"table": 7}')
    redis_client.set(keys.CATALOG_FILE, '{"node": "x", "sources": [7]}')
    there = load_catalog(other, redis_client)
    assert there.get("right").engine == "fake"
    assert [problem.where for problem in there.problems] == ["added model wrong: models.wrong.capabilities.0"]
    assert not {"wrong", "broken", "odd"} & {model.id for model in there}


def test_a_machine_publishes_its_file_with_its_mistakes(
    redis_client: redis.Redis, machine: Settings, other: Settings
) -> None:
    write(
        machine,
        '[providers.own]\nprotocol = "openai"\n[models.new]\ncapabilities = ["chat"]\nprovider = "own"\n'
        '[models.wrong]\ncapabilities = ["chat"]\nmax_tokens = "x"\n',
    )
    here, there = load_catalog(machine, redis_client), load_catalog(other, redis_client)
    here.publish()
    assert there.get("new").via == here.get("new").via == there.providers["own"]
    (problem,) = there.problems
    assert problem.where == f"{machine.config} of one, line 8, column 1: models.wrong.max_tokens"
    assert [one.where for one in here.problems] == [f"{machine.config}, line 8, column 1: models.wrong.max_tokens"]
    write(machine, machine.config.read_text().replace('provider = "own"', 'provider = "owm"'))
    here.publish()
    assert there.get("new").provider == "own", "a table that has become wrong stays as it was"
    write(machine, '[models.newer]\ncapabilities = ["chat"]\n')
    here.publish()
    assert there.get("newer").id == "newer"
    with pytest.raises(ModelNotFound):
        there.get("new")
    assert not there.problems


def test_a_machine_without_a_file_leaves_what_another_has_published(
    redis_client: redis.Redis, machine: Settings, other: Settings
) -> None:
    write(machine, '[models.new]\ncapabilities = ["chat"]\n')
    here, there = load_catalog(machine, redis_client), load_catalog(other, redis_client)
    here.publish()
    there.publish()
    there.publish()
    assert there.get("new").id == "new"
    machine.config.unlink()
    here.publish()
    with pytest.raises(ModelNotFound):
        there.get("new")


def test_a_file_of_ones_own_is_over_what_others_say(
    redis_client: redis.Redis, machine: Settings, other: Settings
) -> None:
    CatalogStore(redis_client).add("m", ADDED)
    write(machine, "[models.m]\nmax_tokens = 9\n")
    write(other, "[models.m]\nmax_tokens = 11\n")
    here, there = load_catalog(machine, redis_client), load_catalog(other, redis_client)
    here.publish()
    assert (here.get("m").max_tokens, there.get("m").max_tokens) == (9, 11)
    assert here.get("m").engine == there.get("m").engine == "fake", "what a table does not say is as before"
    other.config.unlink()
    assert there.get("m").max_tokens == 9


def test_while_redis_is_away_the_catalog_stays(redis_client: redis.Redis, other: Settings) -> None:
    CatalogStore(redis_client).add("m", ADDED)
    there = load_catalog(other, redis_client)
    redis_client.close()
    redis_client.connection_pool.connection_kwargs["path"] = "/nowhere"
    redis_client.connection_pool.disconnect()
    assert there.get("m").max_tokens == 7
    with pytest.raises(ModelNotFound):
        there.get("other")
