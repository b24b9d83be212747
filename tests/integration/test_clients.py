"""The clients of docs/clients.md against a running stack: each SDK does the same with a model of ours and a remote one.

What they do is in their programs (tests/clients), which assert what must hold whatever a model says.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from gateway.access.api_keys import Credentials
from gateway.store.codec import dumps, loads
from tests.clients import install
from tests.clients.programs import Program, environ
from tests.clients.scenarios import Server
from tests.stack import KEY, Stack, eventually
from tests.upstreams.obedient import ObedientServer

PROGRAMS = [Program("openai_sdk"), Program("langchain", paths=("remote",))]
#: Those that `make deps-clients` installs.
MORE = [
    Program("langchain", paths=("local",)),
    *(Program(name, "sdks") for name in ("pydantic_ai", "agents", "litellm")),
    *(Program(name, "sdks-2") for name in ("instructor", "llama_index")),
    Program("openai_sdk", "sdks-2"),
    Program("ai_sdk", "node"),
    Program("aider_cli", "aider"),
    Program("continue_cli", "node"),
    # Its prompt and 25 tools are minutes of work for the demo model on a processor.
    Program("cline_cli", "node", paths=("remote",)),
]
#: The demo model is not made for tools: where a call must be made, the grammar makes it call.
LOCAL, REMOTE = "smollm2-135m", "team/assistant"
UPSTREAM_KEY = "sk-upstream-7c1d"


@pytest.fixture(scope="module")
def upstream() -> Iterator[ObedientServer]:
    """What stands behind the remote model."""
    server = ObedientServer(UPSTREAM_KEY)
    yield server
    server.close()


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory, upstream: ObedientServer) -> Iterator[Stack]:
    """With a model of each kind."""
    provider = {"protocol": "openai", "base_url": f"{upstream.url}/v1", "api_key_env": "UP_OPENAI_KEY"}
    remote = {"provider": "up", "upstream": "gpt-5", "capabilities": ["chat", "completion", "tool_use"]}
    stack = Stack(
        tmp_path_factory.mktemp("s"),
        providers_json=dumps({"up": provider}),
        models_json=dumps({REMOTE: {**remote, "on_interrupt": "fail"}}),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UP_OPENAI_KEY", UPSTREAM_KEY)
        try:
            stack.up({LOCAL: {}})
            stack.start("provider")
            eventually(stack.registry.providers, "a provider worker")
            yield stack
        finally:
            stack.close()


Outcomes = Callable[[Program, str], Mapping[str, str]]


@pytest.fixture(scope="module")
def outcomes(stack: Stack) -> Outcomes:
    """What a program's scenarios have come to; each program runs once on a path."""
    found: dict[tuple[Program, str], Mapping[str, str]] = {}

    def outcomes_of(program: Program, path: str) -> Mapping[str, str]:
        if (program, path) not in found:
            found[program, path] = program.run(server(stack, path))
        return found[program, path]

    return outcomes_of


def server(stack: Stack, path: str) -> Server:
    """What programs are told."""
    _, limited = Credentials(stack.redis).create("limited", requests_per_minute=1)
    model = LOCAL if path == "local" else REMOTE
    return Server(f"{stack.url}/v1", KEY, limited, model=model, tools_model=model, certain=path == "remote")


def cases(programs: list[Program], *marks: Any) -> list[Any]:
    """Every scenario of every program, on both paths."""
    return [
        pytest.param(program, path, scenario, id=f"{program}-{path}-{scenario}", marks=marks)
        for program in programs
        for path in program.paths
        for scenario in program.scenarios()
    ]


@pytest.mark.parametrize(("program", "path", "scenario"), [*cases(PROGRAMS), *cases(MORE, pytest.mark.slow)])
def test_a_client_is_at_home(outcomes: Outcomes, program: Program, path: str, scenario: str) -> None:
    said = outcomes(program, path)[scenario]
    assert not said, said


@pytest.mark.slow
@pytest.mark.parametrize("path", ["remote"])
def test_a_probe_of_tool_calls_finds_nothing(stack: Stack, path: str, tmp_path: Path) -> None:
    """`canitoolcall probe`: nine scenarios, each whole, as a stream, and both compared."""
    passed, report = probe(server(stack, path), tmp_path / "report.json")
    assert passed == 27, report


def probe(server: Server, file: Path) -> tuple[int, str]:
    """How many of its 27 checks have passed, and what it says."""
    if lacks := install.lacks("sdks"):
        pytest.fail(f"{lacks} Run: make deps-clients", False)
    command = [str(install.python("sdks")), "-m", "canitoolcall", "probe", "--json", str(file)]
    done = subprocess.run(
        [*command, "--base-url", server.base_url, "--model", server.tools_model],
        check=False,
        env={**environ(), "CANITOOLCALL_API_KEY": server.key},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert file.exists(), done.stdout + done.stderr
    return loads(file.read_text())["summary"]["pass"], done.stdout
