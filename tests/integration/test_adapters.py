"""Adapters in one batch with their base, against the models they stand for. test_vllm.py runs it where vLLM is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.adapters import merged, save_adapter
from tests.apart import VLLM_SHAPE
from tests.engines import loaded_engine
from tests.named_models import save_safetensors
from workers.engines.base import Engine, EngineConfig, EngineRequestError, Sampling, SequenceRequest

#: Its engines, until the end: one that is thrown away would take what they share with it.
LOADED: list[Engine] = []


def load(folder: Path, *adapters: Path) -> Engine:
    config = EngineConfig("vllm", str(folder), "CPU", 8, 256, {"eager": True}, adapters=[*map(str, adapters)])
    LOADED.append(loaded_engine(config))
    return LOADED[-1]


def request(i: int, adapter: Path | str = "") -> SequenceRequest:
    return SequenceRequest(i, [5, 6, 7, 8], Sampling(12, temperature=0.0), adapter=str(adapter))


def answers(engine: Engine, requests: Sequence[SequenceRequest]) -> list[list[int]]:
    for one in requests:
        engine.add(one)
    made: dict[int, list[int]] = {}
    while engine.has_work():
        for output in engine.step():
            made.setdefault(output.sequence_id, []).extend(output.token_ids)
    return [made[i] for i in sorted(made)]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_safetensors(tmp_path_factory.mktemp("base"), **VLLM_SHAPE)


def test_one_batch_has_the_base_and_several_adapters_of_it(tmp_path: Path, base: Path) -> None:
    adapters = [save_adapter(tmp_path / f"a{i}", base, seed=i, rank=4 + 8 * i) for i in range(3)]
    engine = load(base, *adapters)
    asked = [request(i, adapter) for i, adapter in enumerate(["", *adapters, "", *adapters])]
    together = answers(engine, asked)
    assert together[:4] == together[4:]
    assert len({tuple(ids) for ids in together}) == 4
    stands_for = merged(tmp_path / "merged", base, adapters[1])
    assert answers(load(stands_for), [request(0)]) == [together[2]]


def test_an_adapter_that_can_not_be_used_ends_its_own_request(tmp_path: Path, base: Path) -> None:
    good, large = save_adapter(tmp_path / "good", base), save_adapter(tmp_path / "large", base, rank=64)
    broken = save_adapter(tmp_path / "broken", base)
    (broken / "adapter_model.safetensors").write_bytes(b"none")
    engine = load(base, good, broken)
    engine.add(request(0, good))
    for wrong, says in ((large, "rank 64 is greater"), (broken, "broken can't be used"), (tmp_path / "no", "no can't")):
        with pytest.raises(EngineRequestError, match=says):
            engine.add(request(1, wrong))
    assert [len(ids) for ids in answers(engine, [request(1)])] == [12, 12]
    for one, room in ((load(base), 0), (load(base, good), 1)):
        if room:
            one.add(request(0, good))
        with pytest.raises(EngineRequestError, match=f"room for {room} adapters: deploy its model again"):
            one.add(request(1, save_adapter(tmp_path / f"more{room}", base)))
        answers(one, [])
