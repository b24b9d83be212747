"""Whether an answer could go on exactly: by what is asked, by the engine, and by what an earlier claim has begun."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from gateway.errors import GenerationFailed, HeadraceError, InvalidRequest
from gateway.inference.exact_resume import FIELD, not_kept, require_32_bits
from gateway.inference.parameters import with_defaults
from gateway.models.catalog import load_catalog
from gateway.models.engines import SPECS
from gateway.models.entry import Model, Range
from gateway.settings import Settings
from tests.journals import Journal, Letters
from workers.engines.base import EngineInfo
from workers.handlers.generation_run import Run

MODEL = Model("m", "m", "", "1", ("chat", "tool_use"), engine="transformers")
ENGINE = EngineInfo("transformers", 100, "w1", [], {"in_32_bits": True})
SEEDED: dict[str, Any] = {FIELD: True, "temperature": 0.7, "top_p": 1.0, "seed": 1}
GREEDY: dict[str, Any] = {**SEEDED, "temperature": 0.0}
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("engine", "asked", "lost"),
    [
        ("transformers", SEEDED, []),
        ("transformers", {**SEEDED, "frequency_penalty": 1.0, "logit_bias": {"1": 1.0}, "min_p": 0.1}, []),
        ("openvino", SEEDED, ["a seed"]),
        ("openvino", GREEDY, []),
        ("openvino", {**SEEDED, "top_p": 0}, []),
        ("openvino", {**GREEDY, "presence_penalty": 1.0, "frequency_penalty": 1.0}, ["frequency_penalty", "presence_"]),
        ("openvino", {**GREEDY, "presence_penalty": 0, "repetition_penalty": 1.2}, []),
        ("openvino", {**GREEDY, "response_format": {"type": "json_object"}, "tools": [TOOL]}, []),
        ("vllm", {**SEEDED, "seed": None}, ["without a seed"]),
        ("fake", {**SEEDED, "seed": None}, ["without a seed"]),
        ("openvino", {**SEEDED, FIELD: False}, []),
    ],
)
def test_what_an_engine_does_not_keep_is_named(engine: str, asked: dict[str, Any], lost: list[str]) -> None:
    errors = not_kept(replace(MODEL, engine=engine), asked)
    assert list(errors) == ([FIELD] if lost else [])
    assert all(word in errors[FIELD][0] for word in lost)


def test_an_engine_that_declares_nothing_keeps_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SPECS, "echo", replace(SPECS["fake"], name="echo", keeps=frozenset()))
    assert "does not keep greedy answers over a resume" in not_kept(replace(MODEL, engine="echo"), GREEDY)[FIELD][0]


def test_defaults_of_the_model_count() -> None:
    """Those of sampling, too: nobody has asked for the penalty."""
    seeded = {FIELD: True, "seed": 1}
    with_defaults(MODEL, seeded)
    with pytest.raises(InvalidRequest, match="without a seed"):
        with_defaults(MODEL, {FIELD: True})
    greedy = replace(MODEL, engine="openvino", temperature=Range(0.0, 2.0, 0.0))
    with_defaults(greedy, {FIELD: True})
    with pytest.raises(InvalidRequest, match="presence_penalty"):
        with_defaults(replace(greedy, presence_penalty=Range(-2.0, 2.0, 0.5)), {FIELD: True})


def test_a_provider_resumes_nothing() -> None:
    remote = next(model for model in load_catalog(Settings.load({})) if not model.local)
    with pytest.raises(InvalidRequest, match="is a provider's, whose answers can't be resumed"):
        with_defaults(remote, {**SEEDED, "messages": [{"role": "user", "content": "hi"}]})


def test_all_replicas_must_compute_in_32_bits() -> None:
    exact = {"in_32_bits": True}
    require_32_bits("m", SEEDED, [])
    require_32_bits("m", SEEDED, [exact, exact])
    require_32_bits("m", {}, [{"in_32_bits": False}])
    for other in ({"in_32_bits": False}, {}):
        with pytest.raises(InvalidRequest, match="m is computed or kept in fewer than 32 bits: near ties may"):
            require_32_bits("m", SEEDED, [exact, other])


def claimed(journal: Journal, *, shift: int = 0, weights: str = "w1", engine: EngineInfo = ENGINE, **asked: Any) -> Run:
    run = journal.claim(Letters(shift), weights=weights, engine=engine.name, **{**SEEDED, **asked})
    run.require_exact(MODEL, replace(engine, weights_digest=weights))
    return run


OTHERS: list[tuple[dict[str, Any], type[HeadraceError], str]] = [
    ({"weights": "w2"}, GenerationFailed, "its weights changed"),
    ({"shift": 1000}, GenerationFailed, "its tokenizer changed"),
    ({"engine": replace(ENGINE, name="fake")}, GenerationFailed, "its engine changed"),
    ({"weights": "w2", "engine": replace(ENGINE, name="fake")}, GenerationFailed, "its weights and engine changed"),
    ({"engine": replace(ENGINE, name="vllm")}, InvalidRequest, "The vllm engine of m does not keep a seed"),
    ({"engine": replace(ENGINE, effective={})}, InvalidRequest, "m is computed or kept in fewer than 32 bits"),
]


@pytest.mark.parametrize(("other", "error", "text"), OTHERS)
def test_a_worker_that_would_go_on_otherwise_does_not(
    other: dict[str, Any], error: type[HeadraceError], text: str
) -> None:
    journal = Journal()
    journal.make(claimed(journal), "abc")
    journal.make(claimed(journal), "d")
    with pytest.raises(error, match=text) as caught:
        claimed(journal, **other)
    assert caught.value.reason == ("resume_not_exact" if error is GenerationFailed else "invalid_request")
    claimed(journal, **{**other, FIELD: False})


def test_a_journal_without_names_of_engines_is_of_any() -> None:
    """As an older version has written it."""
    journal = Journal()
    journal.make(journal.claim(Letters(0), **SEEDED), "abc")
    claimed(journal)
