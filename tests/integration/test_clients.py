"""Clients of others against a running stack: each SDK does the same things with a model of ours and with a remote one.

What they do is in their programs (tests/clients), which assert what must hold whatever a model says.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from gateway.access.api_keys import Credentials
from gateway.store.codec import dumps
from tests.clients.programs import Program
from tests.clients.scenarios import Server
from tests.stack import KEY, Stack, eventually
from tests.upstreams.obedient import ObedientServer

PROGRAMS = [Program("openai_sdk"), Program("langchain")]
#: Those that `make deps-clients` installs.
MORE: list[Program] = []
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
    with stack.client(limited) as client:
        body = {"model": LOCAL, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        assert client.post("/v1/chat/completions", json=body).status_code == 200
    model = LOCAL if path == "local" else REMOTE
    return Server(f"{stack.url}/v1", KEY, limited, model=model, tools_model=model, certain=path == "remote")


#: What does not work yet.
PENDING = {
    ("local", "tools"),
    ("local", "tools_streamed"),
    *((path, name) for path in ("local", "remote") for name in ("overflow", "structured", "structured_streamed")),
    *((path, "structured_by_schema") for path in ("local", "remote")),
    ("local", "structured_by_call"),
    ("remote", "stream"),
}


def pending(path: str, scenario: str) -> Any:
    """A mark for it."""
    return [pytest.mark.xfail(reason="not there yet")] if (path, scenario) in PENDING else []


def cases(programs: list[Program], *marks: Any) -> list[Any]:
    """Every scenario of every program, on both paths."""
    return [
        pytest.param(
            program, path, scenario, id=f"{program.name}-{path}-{scenario}", marks=[*marks, *pending(path, scenario)]
        )
        for program in programs
        for path in ("local", "remote")
        for scenario in program.scenarios()
    ]


@pytest.mark.parametrize(("program", "path", "scenario"), [*cases(PROGRAMS), *cases(MORE, pytest.mark.slow)])
def test_a_client_is_at_home(outcomes: Outcomes, program: Program, path: str, scenario: str) -> None:
    said = outcomes(program, path)[scenario]
    assert not said, said
