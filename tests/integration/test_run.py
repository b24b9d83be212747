"""`headrace run` from the built wheel, in an empty folder: one command from a name to a streamed answer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub_server import HubServer
from tests.integration.test_wheel import Installed, installed
from tests.tiny_models import demo_path, save_tiny_llama
from tests.tokenizers import qwen2, save_folder
from tests.wheel import build

TEMPLATE = "{% for m in messages %}<|bos|>{{ m.role }} {{ m.content }}<|eot|>{% endfor %}<|bos|>assistant "
#: A question that the demo model answers with this word.
QUESTION, ANSWER = "What is the capital of France?", "Paris"


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub with the demo model, in a repository such as those that hold GGUF files."""
    folder = tmp_path_factory.mktemp("hub")
    shutil.copy(demo_path(), folder / "SmolLM2-135M-Instruct.Q4_1.gguf")
    hub = HubServer()
    hub.add("org/SmolLM2-GGUF", folder)
    with hub.running():
        yield hub


@pytest.fixture(scope="module")
def user(tmp_path_factory: pytest.TempPathFactory, hub: HubServer) -> Iterator[Installed]:
    """Somebody with the wheel, and an empty folder."""
    folder = tmp_path_factory.mktemp("r")
    user = installed(build(tmp_path_factory.mktemp("wheel")), folder)
    user.home.environ |= {"HF_ENDPOINT": hub.url}
    yield user
    user.run("headrace", "down")


def test_a_name_of_the_hub_is_one_command_away_from_an_answer(user: Installed, hub: HubServer) -> None:
    said = user.headrace("run", "org/SmolLM2-GGUF", QUESTION, "--temperature", "0", "--max-tokens", "24")
    commit = hub.repositories["org/SmolLM2-GGUF"].revision
    assert "'headrace down' ends it" in said, "it has started a gateway, and says how to end it"
    assert f"source hub:org/SmolLM2-GGUF@{commit}/SmolLM2-135M-Instruct.Q4_1.gguf" in said
    assert "downloading_weights: completed" in said
    assert ANSWER in said.splitlines()[-1], said
    again = user.headrace("run", "org/SmolLM2-GGUF", QUESTION, "--temperature", "0", "--max-tokens", "24")
    assert again.strip() == said.splitlines()[-1], "what is served answers at once"
    assert not list(user.cwd.iterdir()), "nothing was written where the command was given"


def test_a_gguf_file_is(user: Installed, tmp_path: Path) -> None:
    shutil.copy(demo_path(), tmp_path / "mine.gguf")
    said = user.headrace("run", str(tmp_path / "mine.gguf"), "--temperature", "0", "--max-tokens", "24", stdin=QUESTION)
    assert f"source {tmp_path / 'mine.gguf'}" in said
    assert ANSWER in said.splitlines()[-1], said


def test_a_folder_is(user: Installed) -> None:
    folder = user.cwd / "tiny"
    save_folder(save_tiny_llama(folder, vocab_size=1300), qwen2(), template=TEMPLATE)
    said = user.headrace("run", "./tiny", "Hello!", "--max-tokens", "3", "--temperature", "0")
    shutil.rmtree(folder)
    assert f"source {folder}" in said
    assert "engine transformers" in said
    assert "tiny" in user.headrace("models")


def test_what_is_no_name_of_a_model_is_one_line(user: Installed) -> None:
    done = user.run("headrace", "run", "org/SmolLM2-GGUFF", "Hello!")
    assert done.returncode == 1
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("Error")]
    assert "org/SmolLM2-GGUF" in line.replace("org/SmolLM2-GGUFF", ""), "near names are told"
