"""What processes are given of the environment."""

from __future__ import annotations

import pytest

from gateway.process.environment import of_process, public
from gateway.settings import Settings

_SECRET_NAMES = (
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "KEY"),
    *("AWS_SESSION_TOKEN", "PYTHON_KEYRING_BACKEND_KEY", "CUDA_KEY", "LC_PASSWORD", "HTTPS_PROXY", "PIP_INDEX_URL"),
    *("HEADRACE_REDIS_URL", "HEADRACE_BOOTSTRAP_KEY", "DATABASE_URL", "XDG_AUTH", "TORCH_TOKEN", "ANYTHING"),
)
_USEFUL_NAMES = (
    *("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "PYTHONSAFEPATH", "OMP_NUM_THREADS", "TMPDIR"),
    *("CUDA_VISIBLE_DEVICES", "TOKENIZERS_PARALLELISM", "OV_CACHE_DIR", "VIRTUAL_ENV", "HF_HOME", "XDG_CACHE_HOME"),
)
SECRETS, USEFUL = dict.fromkeys(_SECRET_NAMES, "secret"), dict.fromkeys(_USEFUL_NAMES, "useful")


def test_an_engine_gets_what_is_useful_and_no_secret() -> None:
    assert public({**SECRETS, **USEFUL}) == USEFUL


@pytest.mark.parametrize("name", ["web", "rpc", "agent", "provider", "keeper", "flower", "redis"])
def test_the_admin_key_is_for_those_that_let_requests_in(name: str) -> None:
    settings = Settings(bootstrap_key="the-admin-key", redis_url="redis://:pw@h/0")
    variables = {**USEFUL, "OPENAI_API_KEY": "sk-1", "HEADRACE_API_KEY": "of-a-person", **settings.environ()}
    given = of_process(name, variables)
    assert "of-a-person" not in given.values()
    assert ("the-admin-key" in given.values()) == (name in ("web", "rpc"))
    assert ("sk-1" in given.values()) == (name in ("web", "rpc", "agent", "provider"))
    assert Settings.load(given).redis_url == settings.redis_url
    assert given["PATH"] == "useful"


def test_the_keeper_exports_traces_as_web_and_rpc_do() -> None:
    variables = {"OTEL_EXPORTER_OTLP_HEADERS": "key=1"}
    given = [
        name for name in ("web", "rpc", "keeper", "flower", "redis") if of_process(name, variables).keys() & variables
    ]
    assert given == ["web", "rpc", "keeper"]
    assert public(variables) == {}
