"""The REST face below a root path, as a proxy shows it to its clients: all its links begin with that path."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

import httpx
import pytest

from tests.rpc import Client, start_rpc
from tests.stack import KEY, Stack, running
from web.rpc.stubs import model_pb2 as pb

ROOT = "/llm"
CHAT = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {}}, root_path=ROOT) as stack:
        start_rpc(stack)
        yield stack


def links(data: dict[str, str]) -> set[str]:
    return {data[name] for name in ("location", "progress_url", "events_url") if name in data}


@pytest.mark.parametrize("prefix", [ROOT, ""], ids=["handed on whole", "taken away"])
def test_links_to_a_job_begin_with_the_root_path(client: httpx.Client, rpc: Client, prefix: str) -> None:
    accepted = client.post(f"{prefix}/models/fake/chat/completions", json=CHAT, headers={"Prefer": "respond-async"})
    location = accepted.headers["Location"]
    assert location == accepted.json()["data"]["location"] == f"{ROOT}/jobs/{accepted.headers['X-Job-Id']}"
    job = client.get(location).json()["data"]
    assert job["events_url"] == f"{location}/events"
    assert "data: [DONE]" in client.get(job["events_url"]).text
    assert f"{location}/events" in {one["events_url"] for one in client.get("/jobs").json()["data"]["jobs"]}
    assert rpc.call("GetJob", pb.GetJobRequest(job_id=job["job_id"])).events_url == f"{location}/events"


def test_links_to_a_deployment_begin_with_the_root_path(client: httpx.Client) -> None:
    begun = client.patch("/models/local/fake", json={"replicas": 1}).json()["data"]
    found = client.get(begun["progress_url"]).json()["data"]
    assert begun["progress_url"] == found["progress_url"] == f"{ROOT}/models/local/deployments/{begun['deployment_id']}"
    assert "data: [DONE]" in client.get(found["events_url"]).text
    (listed,) = client.get("/models/local/deployments").json()["data"]["deployments"]
    assert listed["progress_url"] == begun["progress_url"]
    result = client.get(f"/jobs/{begun['deployment_id']}").json()["data"]["result"]
    assert links(result) == links(found)


def test_the_root_leads_somewhere(stack: Stack) -> None:
    with stack.client(key="") as client:
        for at in (ROOT, f"{ROOT}/", "/"):
            found = client.get(at).json()["data"]
            assert {found[name] for name in ("docs", "openapi", "openai", "ready")} == {
                f"{ROOT}{path}" for path in ("/docs/", "/openapi.json", "/v1", "/health/ready")
            }
            browser = client.get(at, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
            assert (browser.status_code, browser.headers["Location"]) == (302, f"{ROOT}/docs/")
        lost = client.get(f"{ROOT}/nothing", headers={"Accept": "text/html"})
        assert (lost.status_code, lost.json()["message"]) == (
            404,
            "There is nothing at /llm/nothing. See /llm/docs for what there is.",
        )


def test_the_documentation_finds_its_parts(stack: Stack) -> None:
    with stack.client(key="") as client:
        page = client.get(f"{ROOT}/docs", follow_redirects=True)
        assert page.url.path == f"{ROOT}/docs/"
        document = page.url.join(re.findall(r'url: "([^"]+)"', page.text)[0])
        for part in re.findall(r'(?:src|href)="([^"]+)"', page.text):
            assert client.get(page.url.join(part)).status_code == 200, part
        spec = client.get(document).json()
        version = spec["info"]["version"]
        assert f"<title>Headrace {version}" in page.text
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", version)
        assert "Getting started" in spec["info"]["description"]
        (server,) = spec["servers"]
        assert client.get(page.url.join(f"{server['url']}/health/live")).status_code == 200


def test_no_header_names_another_path(stack: Stack) -> None:
    """gunicorn takes these from clients on the same machine, so from whoever comes through a proxy there."""
    with stack.client() as client:
        found = client.get("/health/live", headers={"PATH_INFO": "/keys", "SCRIPT_NAME": "/other"})
        assert found.json()["data"] == {"status": "healthy"}
        assert client.get("/", headers={"SCRIPT_NAME": "/other"}).json()["data"]["docs"] == f"{ROOT}/docs/"


def test_a_streams_job_is_found_below_the_root_path(stack: Stack) -> None:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.stream(
        "POST",
        f"{stack.url}{ROOT}/v1/chat/completions",
        headers=headers,
        json={**CHAT, "model": "fake", "stream": True},
    ) as response:
        lines = [line.removeprefix("data: ") for line in response.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "[DONE]"
    assert {json.loads(line)["id"] for line in lines[:-1]} == {response.headers["X-Job-Id"]}
