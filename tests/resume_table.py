"""The table of what a resume carries over, in docs/engines.md: `python -m tests.resume_table` makes it anew.

It says what `EngineSpec.keeps` does. `tests/integration/test_resumes.py` holds the engines to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gateway.models.engines import SPECS, EngineSpec
from tests.made_parts import put

PAGE = Path(__file__).parents[1] / "docs" / "engines.md"
FORGOTTEN = "**forgotten**: it counts anew"


class Row(NamedTuple):
    """Features that stand together: what a request calls them, and what becomes of them where they are not kept."""

    of_the_request: str
    features: Sequence[str]
    otherwise: str = "another answer"


ROWS = (
    Row("greedy (`temperature: 0`)", ("greedy",)),
    Row("sampled with a `seed`", ("seed",), "fresh draws, the same for the same token number"),
    Row("`top_p`, `top_k`, `min_p`", ("top_p", "top_k", "min_p")),
    Row("`repetition_penalty`", ("repetition_penalty",), FORGOTTEN),
    Row("`presence_penalty`, `frequency_penalty`", ("presence_penalty", "frequency_penalty"), FORGOTTEN),
    Row("`logit_bias`", ("logit_bias",)),
    Row("`logprobs` of the chosen tokens", ("logprobs",)),
    Row("other likely tokens, those of the prompt", ("top_logprobs", "prompt_logprobs")),
    Row("a form, a tool that must be called", ("grammar",)),
)


def table() -> str:
    """One column for each engine that makes text."""
    engines = [spec for spec in SPECS.values() if spec.can]
    heads = "".join(f" `{spec.name}` |" for spec in engines)
    shown = [f"| of the request |{heads}", "|---" * (1 + len(engines)) + "|"]
    shown += [f"| {row.of_the_request} |{''.join(f' {_cell(spec, row)} |' for spec in engines)}" for row in ROWS]
    return "\n".join(shown) + "\n"


def _cell(spec: EngineSpec, row: Row) -> str:
    """One word for all features of a row, or the table must have more rows."""
    (word,) = {_word(spec, feature, row.otherwise) for feature in row.features}
    return word


def _word(spec: EngineSpec, feature: str, otherwise: str) -> str:
    able = {*spec.can, "greedy", *(["grammar"] if spec.grammar_language else [])}
    if feature not in able:
        return "refused"
    return "kept" if feature in spec.keeps else otherwise


if __name__ == "__main__":
    put(PAGE, "resume", table())
