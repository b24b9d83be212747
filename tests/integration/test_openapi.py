"""The OpenAPI document is true: schemathesis makes requests from it and holds a real stack's answers against it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from gateway.access.api_keys import Credentials
from gateway.context import Gateway
from schemas.examples import CHAT_MODEL, EMBEDDING_MODEL
from tests.stack import KEY, Stack, running
from web.app import create_app

#: Random requests for each operation, beside the systematic ones of the coverage phase; `make check` makes more.
EXAMPLES = int(os.environ.get("HEADRACE_EXAMPLES") or 5)
#: What a request may ask for, and that it may ask at all, lies with the model: the document can't say it.
EXCLUDED = "positive_data_acceptance"
#: Operations that could take away the key that the requests are made with; they get another one.
KEY_PATH = "/keys/{key_id}"
EMBEDDINGS = "/models/{model_id}/embeddings"
#: Those could take away the model, or load real ones; they get a model that the catalog does not have.
LOCAL_PATHS = "^/models/local"
HARMFUL_PATHS = "^/keys/[{]key_id[}]$|^/models/local/([{]|deploy$)"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    small = {"engine": "fake", "max_tokens": 50, "default_max_tokens": 2}
    # The examples name the demo model; what it says does not matter here, and the fake engine says it at once.
    models = {"fake": small, CHAT_MODEL: {**small, "source": "", "quantization": "none"}}
    with running(
        tmp_path_factory.mktemp("s"), {"fake": {}, CHAT_MODEL: {}, EMBEDDING_MODEL: {}}, models_json=json.dumps(models)
    ) as stack:
        yield stack


def test_the_document_names_every_route(stack: Stack) -> None:
    gateway = Gateway.connect(stack.settings)
    app = create_app(gateway)
    gateway.redis.close()
    routes = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()}
    with stack.client() as client:
        document = client.get("/openapi.json").json()
    promised = {path for path in routes if not path.startswith(("/docs", "/openapi.json"))}
    assert set(document["paths"]) == promised
    for path, item in document["paths"].items():
        for operation in (item[method] for method in item.keys() - {"parameters"}):
            assert operation["summary"], path
            assert all("headers" in response or "$ref" in response for response in operation["responses"].values())


def run(stack: Stack, folder: Path, model_id: str, key_id: str, *options: str) -> None:
    """Fails with schemathesis' own report."""
    embedding_model = EMBEDDING_MODEL if model_id == "fake" else model_id
    config = folder / "schemathesis.toml"
    config.write_text(
        f'[parameters]\n"path.model_id" = "{model_id}"\n"path.key_id" = "{key_id}"\n'
        f'[[operations]]\ninclude-path = "{EMBEDDINGS}"\nparameters = {{ "path.model_id" = "{embedding_model}" }}\n'
    )
    command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(config), "run"]
    command += [f"{stack.url}/openapi.json", "--header", f"Authorization: Bearer {KEY}", "--exclude-checks", EXCLUDED]
    command += ["--max-examples", str(EXAMPLES), "--phases", "examples,coverage,fuzzing", *options]
    command += ["--generation-deterministic", "--continue-on-failure", "--request-timeout", "120", "--no-color"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280, check=False)
    assert result.returncode == 0, result.stdout[-20_000:] + result.stderr[-2_000:]
    with stack.client() as client:
        assert client.post("/models/fake/completions", json={"prompt": "x", "max_tokens": 1}).status_code == 200


def test_no_answer_is_against_the_document(stack: Stack, tmp_path: Path) -> None:
    run(stack, tmp_path, "fake", "none", "--exclude-path-regex", HARMFUL_PATHS)


@pytest.mark.slow
def test_no_answer_about_a_deployment_is_against_the_document(stack: Stack, tmp_path: Path) -> None:
    """Of a model that the catalog does not have, so that nothing is loaded."""
    run(stack, tmp_path, "nothing", "none", "--include-path-regex", LOCAL_PATHS)


def test_no_answer_about_a_key_is_against_the_document(stack: Stack, tmp_path: Path) -> None:
    record, _ = Credentials(stack.redis).create("victim")
    run(stack, tmp_path, "fake", record.id, "--include-path", KEY_PATH)


@pytest.mark.slow
def test_no_answer_about_an_unknown_model_is_against_the_document(stack: Stack, tmp_path: Path) -> None:
    run(stack, tmp_path, "org/no:model.", "none", "--include-path-regex", "model_id")
