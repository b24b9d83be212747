"""What an engine says that a resume keeps (`EngineSpec.keeps`), held against an undisturbed run of the same engine.

Each answer is ended behind tokens that were drawn by lot, and goes on in another engine, as a model worker would have
it: from the journal, and several at once. All compute in 32 bits, where rounding decides nothing.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from gateway.models.engines import SPECS
from tests.apart import VLLM_SHAPE
from tests.engines import DEVICE, IN_32_BITS, loaded_engine
from tests.journals import Journal
from tests.named_models import save_safetensors
from tests.tiny_models import save_tiny_gguf
from workers.engines.base import Engine, EngineConfig, SequenceOutput
from workers.handlers.generation_run import Run
from workers.tokenizers.load import Tokenizer, load_tokenizer

#: Options with which they compute in 32 bits.
EXACT: dict[str, dict[str, Any]] = {
    "openvino": IN_32_BITS,
    "vllm": {"eager": True},
}
#: vLLM has an interpreter of its own: test_vllm.py runs this file under it.
ENGINES = ["fake", "openvino", "transformers", *(["vllm"] if find_spec("vllm") else [])]
#: How a request asks for each feature, so that it shows in the answer. Draws that only the likeliest token can win need
#: no seed.
ASKED: dict[str, dict[str, Any]] = {
    "greedy": {},
    "seed": {"temperature": 1.0, "seed": 7},
    "top_p": {"temperature": 1.0, "top_p": 1e-9},
    "top_k": {"temperature": 1.0, "top_k": 1},
    "min_p": {"temperature": 1.0, "min_p": 1.0},
    "repetition_penalty": {"repetition_penalty": 1.5},
    "presence_penalty": {"presence_penalty": 2.0},
    "frequency_penalty": {"frequency_penalty": 2.0},
    "logit_bias": {"logit_bias": {"300": 0.3, "301": 0.29}},
    "logprobs": {"logprobs": True},
    "top_logprobs": {"logprobs": True, "top_logprobs": 3},
    "prompt_logprobs": {"logprobs": True, "echo": True},
    "grammar": {"structured_outputs": {"regex": "[a-f]+( [a-f]{2,5}){3}"}},
}
#: So hot that what is drawn shows the noise.
HOT = {"temperature": 2.0, "seed": 7}
MAX_TOKENS = 36
#: OpenVINO takes seconds for each grammar.
COSTLY = ("openvino", "grammar")
#: Answers to different prompts, and interruptions of each.
PROMPTS, CUTS = 2, 4


class Pair:
    """Two engines of one kind over the same weights: one that nobody disturbs, one that goes on for it."""

    def __init__(self, name: str, folder: Path, closing: ExitStack) -> None:
        self.spec = SPECS[name]
        model = _saved(name, folder)
        config = EngineConfig(name, model, DEVICE, CUTS, 512, EXACT.get(name, {}))
        self.tokenizer: Tokenizer = load_tokenizer(model, name)
        self.undisturbed, self.other = loaded_engine(config), loaded_engine(config)
        assert self.other.info.effective["in_32_bits"]
        closing.callback(self.undisturbed.close)
        closing.callback(self.other.close)

    def claim(self, journal: Journal, prompt: Sequence[int], asked: Mapping[str, Any]) -> Run:
        """What a model worker makes of the request, and of what the journal holds already."""
        return journal.claim(
            self.tokenizer,
            prompt=prompt,
            max_tokens=MAX_TOKENS,
            grammar_language=self.spec.grammar_language,
            **{"temperature": 0.0, "seed": None, **asked},
        )

    def whole(self, prompt: Sequence[int], asked: Mapping[str, Any]) -> Answer:
        """An answer that nobody disturbs."""
        journal = Journal()
        return self._driven(self.undisturbed, [(journal, self.claim(journal, prompt, asked))])[0]

    def resumed(
        self, whole: Answer, prompt: Sequence[int], asked: Mapping[str, Any], cuts: Sequence[int]
    ) -> list[Answer]:
        """The same answer for each cut: it is ended behind so many tokens, and another engine makes the rest."""
        runs = []
        for cut in cuts:
            journal = Journal()
            journal.add(self.claim(journal, prompt, asked), whole.beginning(cut))
            runs.append((journal, self.claim(journal, prompt, asked)))
        return self._driven(self.other, runs)

    def _driven(self, engine: Engine, runs: Sequence[tuple[Journal, Run]]) -> list[Answer]:
        """Let an engine make all of them, in one batch."""
        answers = [Answer(journal, run) for journal, run in runs]
        for number, (_, run) in enumerate(runs):
            for request in run.requests(number):
                engine.add(request)
        while engine.has_work():
            for output in engine.step():
                answers[output.sequence_id].add(output)
        return answers


class Answer:
    """What a client gets, and the outputs of which it was made."""

    def __init__(self, journal: Journal, run: Run) -> None:
        self._journal, self._run = journal, run
        self._outputs: list[SequenceOutput] = []

    def add(self, output: SequenceOutput) -> None:
        """More of it."""
        assert output.error is None
        self._outputs.append(output)
        self._journal.add(self._run, output)

    def beginning(self, cut: int) -> SequenceOutput:
        """Its first tokens, with all that was said of them."""
        parts = self._outputs
        ids, logprobs, likely = (
            [one for part in parts for one in getattr(part, name) or ()][:cut]
            for name in ("token_ids", "logprobs", "likely")
        )
        return SequenceOutput(0, ids, logprobs or None, likely=likely or None, prompt=parts[0].prompt)

    @property
    def ids(self) -> list[int]:
        """Without the token that ends it: one whose form is complete needs none."""
        return [i for i in self._run.choices[0].ids if i not in self._run.tokenizer.eos_ids]

    @property
    def text(self) -> str:
        """As a stream has it."""
        return self._journal.text

    @property
    def logprobs(self) -> list[Any]:
        """All that stands in the entries of its tokens, one behind the other."""
        return list(_flat([self._journal.logprobs(), self._journal.logprobs("prompt_lp")]))


def _flat(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _flat(one)
    else:
        yield value


def _saved(name: str, folder: Path) -> str:
    match name:
        case "openvino":
            return str(save_tiny_gguf(folder / "tiny.gguf"))
        case "transformers":
            return str(save_safetensors(folder))
        case "vllm":
            return str(save_safetensors(folder, **VLLM_SHAPE))
    return ""


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Pair]]:
    with ExitStack() as closing:
        yield cache(lambda name: Pair(name, tmp_path_factory.mktemp(name), closing))


def cases(engine: str, feature: str) -> Iterator[tuple[list[int], list[int]]]:
    """Prompts, and where their answers are ended."""
    lot = random.Random(f"{engine} {feature}")
    for _ in range(PROMPTS):
        yield [lot.randrange(3, 500) for _ in range(lot.randrange(3, 40))], lot.sample(range(1, MAX_TOKENS), CUTS)


KEPT = [
    pytest.param(name, feature, marks=[pytest.mark.slow] if (name, feature) == COSTLY else [])
    for name in ENGINES
    for feature in sorted(SPECS[name].keeps)
]


@pytest.mark.parametrize(("name", "feature"), KEPT)
def test_what_is_kept_goes_on_as_if_nothing_had_happened(load: Callable[[str], Pair], name: str, feature: str) -> None:
    pair, asked = load(name), ASKED[feature]
    for prompt, cuts in cases(name, feature):
        whole = pair.whole(prompt, asked)
        for cut, answer in zip(cuts, pair.resumed(whole, prompt, asked, cuts), strict=True):
            assert answer.text == whole.text, f"ended behind {cut} tokens"
            assert answer.ids == whole.ids
            assert answer.logprobs == pytest.approx(whole.logprobs, abs=1e-3)


@pytest.mark.parametrize("name", ENGINES)
def test_all_that_is_kept_is_kept_together(load: Callable[[str], Pair], name: str) -> None:
    """Without a seed it must be greedy; and draws that only one token can win would hide what is drawn."""
    pair = load(name)
    penalties = {"repetition_penalty": 1.2, "presence_penalty": 0.5, "frequency_penalty": 0.25}
    others = {"top_logprobs": 2, "logit_bias": {"300": 0.3, "301": 0.29}}
    drawn = {"temperature": 0.7, "top_k": 50, "top_p": 0.95, "min_p": 0.01, "seed": 11}
    asked = {
        "logprobs": True,
        **{one: value for one, value in {**penalties, **others}.items() if one in pair.spec.keeps},
    }
    asked |= drawn if "seed" in pair.spec.keeps else {}
    for prompt, cuts in cases(name, "all"):
        whole = pair.whole(prompt, asked)
        assert [answer.ids for answer in pair.resumed(whole, prompt, asked, cuts)] == [whole.ids] * CUTS


@pytest.mark.parametrize("name", [name for name in ENGINES if "seed" not in SPECS[name].keeps])
def test_a_seed_that_is_not_kept_goes_on_with_fresh_noise_that_is_always_the_same(
    load: Callable[[str], Pair], name: str
) -> None:
    """Neither that of the beginning, nor that of an undisturbed run."""
    pair = load(name)
    for prompt, cuts in cases(name, "noise"):
        whole, cut = pair.whole(prompt, HOT), min(cuts)
        first, again = pair.resumed(whole, prompt, HOT, [cut, cut])
        assert first.ids == again.ids
        assert first.ids[:cut] == whole.ids[:cut]
        for other in (whole.ids, whole.ids[cut:]):
            assert _alike(first.ids[cut:], other[: MAX_TOKENS - cut]) < 3


def _alike(one: Sequence[int], other: Sequence[int]) -> int:
    return sum(a == b for a, b in zip(one, other, strict=False))


FORGOTTEN = [
    (name, feature)
    for name in ENGINES
    for feature in ("presence_penalty", "frequency_penalty", "repetition_penalty")
    if feature in SPECS[name].can - SPECS[name].keeps
]


@pytest.mark.parametrize(("name", "feature"), FORGOTTEN)
def test_a_penalty_that_is_not_kept_counts_anew(load: Callable[[str], Pair], name: str, feature: str) -> None:
    """So the rest is what a prompt that ends with the answer so far would get."""
    pair, asked = load(name), ASKED[feature]
    differ = 0
    for prompt, cuts in cases(name, feature):
        whole = pair.whole(prompt, asked)
        for cut, answer in zip(cuts, pair.resumed(whole, prompt, asked, cuts), strict=True):
            as_prompt = pair.whole([*prompt, *whole.ids[:cut]], asked).ids[: MAX_TOKENS - cut]
            assert answer.ids == [*whole.ids[:cut], *as_prompt]
            differ += answer.ids != whole.ids
    assert differ
