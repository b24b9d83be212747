"""The OpenAPI document is true: schemathesis makes requests from it and holds a real stack's answers against it.
Its own examples can be sent.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from gateway.access.api_keys import Credentials
from gateway.cluster.nodes import Nodes
from gateway.cluster.registry import Device
from gateway.context import Gateway
from schemas.examples import CHAT_MODEL, EMBEDDING_MODEL
from tests.stack import KEY, Stack, eventually, running
from web.app import create_app

#: Random requests for each operation, beside the systematic ones of the coverage phase; `make check` makes more.
EXAMPLES = int(os.environ.get("HEADRACE_EXAMPLES") or 2)
#: What a request may ask for, and that it may ask at all, lies with the model: the document can't say it.
EXCLUDED = "positive_data_acceptance"
#: Operations that could take away the key that the requests are made with; they get another one.
KEY_PATHS = "^/keys/[{]"
EMBEDDINGS = "/models/{model_id}/embeddings"
#: Those could take away the model, or load real ones; they get a model, or a node, that there is not.
LOCAL_PATHS = "^/models/local|^/nodes/[{]name[}]/"
HARMFUL_PATHS = "^/keys/[{]|^/models/local/([{]|deploy$)|^/nodes/[{]name[}]/(drain|cordon)$"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    small = {"engine": "fake", "max_tokens": 50, "default_max_tokens": 2}
    # The examples name the demo model; what it says does not matter here, and the fake engine says it at once.
    models = {"fake": small, CHAT_MODEL: {**small, "source": "", "quantization": "none"}}
    deployed = {"fake": {}, CHAT_MODEL: {}, EMBEDDING_MODEL: {}}
    # Tokens are made where machines could join; none does here.
    settings = {"models_json": json.dumps(models), "listen": "127.0.0.1:6380"}
    with running(tmp_path_factory.mktemp("s"), deployed, **settings) as stack:
        yield stack


def test_the_document_names_every_route(stack: Stack) -> None:
    gateway = Gateway.connect(stack.settings)
    app = create_app(gateway)
    gateway.redis.close()
    routes = {re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()}
    with stack.client() as client:
        document = client.get("/openapi.json").json()
    promised = {path for path in routes if not path.startswith(("/docs", "/dashboard", "/openapi.json"))}
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
    run(stack, tmp_path, "fake", record.id, "--include-path-regex", KEY_PATHS)


@pytest.mark.slow
def test_no_answer_about_an_unknown_model_is_against_the_document(stack: Stack, tmp_path: Path) -> None:
    run(stack, tmp_path, "org/no:model.", "none", "--include-path-regex", "model_id")


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any], list[dict[str, Any]]]]:
    """(method, path, operation, parameters) of the OpenAPI document; what deletes comes last."""
    found = [
        (method, path, item[method], [*item.get("parameters", []), *item[method].get("parameters", [])])
        for path, item in document["paths"].items()
        for method in item.keys() - {"parameters"}
    ]
    yield from sorted(found, key=lambda operation: operation[0] == "delete")


def deployed(client: httpx.Client, response: httpx.Response) -> str:
    """The id of a deployment that has begun with this response, if one has; only one of a model goes on at a time."""
    is_json = response.headers["Content-Type"] == "application/json"
    data = response.json().get("data") if is_json else None
    if not isinstance(data, dict) or "progress_url" not in data:
        return ""
    running = ("pending", "in_progress")
    status = eventually(
        lambda: (s := client.get(data["progress_url"]).json()["data"]["status"]) not in running and s, "it ends", 90
    )
    assert status == "completed"
    return str(data["deployment_id"])


def test_every_example_of_the_page_can_be_sent(stack: Stack) -> None:
    """As it stands there; only ids that a request gave are filled in. Each request with a body has examples.

    The last test of this file: it ends with what deletes.
    """
    sent = 0
    with stack.client() as client:
        document = client.get("/openapi.json").json()
        known = {
            "job_id": client.post(f"/models/{CHAT_MODEL}/completions", json={"prompt": "a", "max_tokens": 1}).headers[
                "X-Job-Id"
            ],
            "key_id": client.post("/keys", json={"name": "mine"}).json()["data"]["id"],
            "deployment_id": deployed(client, client.post("/models/local/deploy", json={"model_type": "fake"})),
        }
        client.delete("/models/team/echo")  # random requests may have added it
        known["name"] = "left-long-ago"
        Nodes(stack.redis).note(Device("agent:0", known["name"], "cpu0", pid=1))
        known["token_id"] = client.post("/join-tokens", json={}).json()["data"]["id"]
        for method, path, operation, parameters in operations(document):
            values = {
                p["name"]: p.get("example", p["schema"].get("example")) for p in parameters if p.get("in") == "path"
            }
            if path == "/models/{model_id}" and method != "get":  # of those that an example has added
                values["model_id"] = "team/echo"
            address = path.format(**values | known)
            assert "None" not in address
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            examples = content.get("examples", {}) if content else {"no body": {"value": None}}
            assert examples, f"{method} {path} has no example"
            for name, example in examples.items():
                response = client.request(method, address, json=example["value"])
                assert response.is_success, f"{method} {path}, example {name}: {response.text}"
                assert str(response.status_code) in operation["responses"]
                deployed(client, response)
                sent += 1
    assert sent > len(document["paths"])
