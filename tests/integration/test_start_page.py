"""docs/start.md from nothing to its end: each of its commands, and what it promises of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.readers import PAGE_S, follow, pages_hub, reader

PAGE = "docs/start.md"


@pytest.mark.timeout(2 * PAGE_S)
def test_the_first_five_minutes(tmp_path: Path) -> None:
    (tmp_path / "hub").mkdir()
    with pages_hub(tmp_path / "hub") as hub, reader(tmp_path, hub) as home:
        said = follow(home, PAGE)
        assert home.command("status").returncode == 3, "nothing runs any more"
    answers = said.split(f"== {PAGE}:")[1:]
    assert "service_registration: completed" in answers[0]
    assert answers[0].splitlines()[-1], "what it says is drawn at random"
    assert "Qwen3-0.6B-Q8_0.gguf" in answers[1]
    assert '"finish_reason"' in answers[2]
    assert answers[3].count("data: {") > 1, "pieces, however long the answer of random weights is"
    assert "data: [DONE]" in answers[4]
    assert answers[5].partition("\n")[2].strip()
    assert "ready    yes" in answers[6]
    assert "five-minutes" in answers[6]
