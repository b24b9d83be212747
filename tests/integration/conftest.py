"""One system for all tests that neither end its processes nor change what runs. Others start their own `stack`."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

from tests import openai_types
from tests.rpc import start_rpc
from tests.stack import Stack, running

if TYPE_CHECKING:
    from playwright.sync_api import Browser

#: For an interpreter with vLLM: test_vllm.py runs it there.
collect_ignore = [] if find_spec("vllm") else ["test_adapters.py", "test_packed_weights.py"]
CHAT_MODEL, ENCODER = "smollm2-135m", "all-minilm-l6-v2"
#: Fake models that take tools; one has an odd id.
TOOLS, ODD = "with-tools", "org/name:7b"
#: Not deployed; its requests go to `fake`.
ABSENT = "not-there"
#: One that runs one sequence at a time, where a test deploys it.
NARROW = "narrow"
DEPLOYED = {"fake": {"step_s": 0.01}, TOOLS: {}, ODD: {}, CHAT_MODEL: {}, ENCODER: {}}
CATALOG = f"""
[models.{TOOLS}]
capabilities = ["chat", "tool_use"]
engine = "fake"
[models."{ODD}"]
capabilities = ["chat", "tool_use"]
engine = "fake"
[models.{NARROW}]
capabilities = ["chat", "completion"]
engine = "fake"
[models.{ABSENT}]
capabilities = ["chat", "completion"]
engine = "fake"
fallbacks = ["fake"]
"""


@pytest.fixture(autouse=True)
def bodies_of_openai(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Whatever a test gets below /v1 must be of OpenAI's types."""
    found = openai_types.watch(monkeypatch)
    yield
    assert not found, "\n".join(found[:5])


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), DEPLOYED, catalog=CATALOG) as stack:
        start_rpc(stack)
        yield stack


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Chromium, for the pages of the dashboard."""
    from tests.browser import chromium

    with chromium() as browser:
        yield browser
