"""Both faces behind nginx and Caddy, with the examples of the documentation; REST below a root path, with which all its
links begin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import grpc
import httpx
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from tests.reverse_proxies import PROXIES, ROOT, ReverseProxy
from tests.rpc import Client, chat_request, start_rpc, text_of
from tests.stack import KEY, PATIENCE_S, Stack, Stream, eventually, free_port, running
from web.rpc.stubs import model_pb2 as pb

PATH = "/models/fake/chat/completions"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
LIMIT = 4 * 1024 * 1024


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    with running(tmp_path_factory.mktemp("s"), {"fake": {"step_s": 0.01}}, root_path=ROOT) as stack:
        stack.start("web-2", settings=replace(stack.settings, http_port=free_port()))
        start_rpc(stack)
        yield stack


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with PROXIES[request.param](stack, ports(stack), tmp_path_factory.mktemp("proxy")) as proxy:
        eventually(lambda: both_answer(stack), "both web processes answer")
        yield proxy


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
            assert (browser.status_code, browser.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
            (base,) = re.findall(r'<base href="([^"]+)">', browser.text)
            for part in re.findall(r'(?:src|href)="(dashboard/[^"]+)"', browser.text):
                assert client.get(httpx.URL(base).join(part)).status_code == 200, part
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


def test_a_stream_comes_through_as_it_is_made(proxy: ReverseProxy) -> None:
    with proxy.client() as client:
        with client.stream("POST", PATH, json={**CHAT, "max_tokens": 90_000, "stream": True}) as response:
            lines = response.iter_lines()
            seen = [next(line for line in lines if line.startswith("data: ")) for _ in range(5)]
            job = client.get(f"/jobs/{response.headers['X-Job-Id']}").json()["data"]
            assert (len(seen), job["status"]) == (5, "in_progress")
        client.delete(f"/jobs/{job['job_id']}").raise_for_status()


def test_streams_go_on_through_the_other_process_when_one_is_killed(proxy: ReverseProxy, stack: Stack) -> None:
    body = {**CHAT, "max_tokens": 150}
    streams = [Stream(proxy, PATH, body).start() for _ in range(6)]
    for stream in streams:
        eventually(lambda stream=stream: stream.text, "the stream has begun")
    stack.kill("web")
    try:
        for stream in streams:
            stream.join()
            with proxy.client() as client:
                result = client.get(f"/jobs/{stream.job_id}").json()["data"]["result"]
            assert stream.text == result["choices"][0]["message"]["content"]
            assert len(stream.text.split()) == body["max_tokens"]
            assert (stream.error, stream.finish_reason) == (None, "length")
            assert stream.seqs == sorted(set(stream.seqs))
        assert sum(stream.reconnects > 0 for stream in streams) > 0
    finally:
        stack.start("web")
        eventually(lambda: both_answer(stack), "both web processes answer")


def test_links_lead_through_the_proxy(proxy: ReverseProxy) -> None:
    with proxy.client() as client:
        location = client.post(PATH, json=CHAT, headers={"Prefer": "respond-async"}).headers["Location"]
        job = client.get(client.base_url.join(location)).json()["data"]
        assert "data: [DONE]" in client.get(client.base_url.join(job["events_url"])).text
        page = client.get("/", headers={"Accept": "text/html"}, follow_redirects=True)
        assert f'<base href="{ROOT}/"' in page.text
        assert client.get(page.url.join("dashboard/app.js")).status_code == 200
        assert client.get(page.url.join("docs/")).status_code == 200
        assert client.get(page.url.join("openapi.json")).json()["servers"] == [{"url": ROOT}]


def test_the_proxys_limit_of_bodies_is_ours(proxy: ReverseProxy) -> None:
    text = json.dumps(CHAT)
    with proxy.client() as client:
        for size, status in ((LIMIT, 200), (LIMIT + 1, 413)):
            headers = {"Content-Type": "application/json"}
            assert client.post(PATH, content=text.ljust(size), headers=headers).status_code == status


ADMIN = [
    "/keys",
    "/keys/x",
    "/usage?x=1",
    "/queue",
    "/metrics",
    "/audit",
    "/nodes/x",
    "/join-tokens",
    "/models/local",
    "/models/local/deploy",
]
#: What everybody's clients need, of REST and of gRPC.
OPEN = re.compile(
    r"(GET|HEAD) /(models(/{model_id})?|health/.*|docs/.*|openapi.json)?|.* /v1/.*|.* /jobs.*"
    r"|POST /models/{model_id}/((chat/)?completions|embeddings)"
    r"|(List|Get)(Models?|Jobs?)|(Watch|Cancel)Job|Create(Completion|ChatCompletion|Embeddings|Job)(Stream)?"
)


@pytest.mark.parametrize("path", ADMIN)
def test_what_admins_need_is_not_handed_on(proxy: ReverseProxy, path: str) -> None:
    """However it is written."""
    first, _, rest = path[1:].partition("/")
    written = [path, f"/{path}", f"/./{path[1:]}", f"/x/..{path}", f"/%{ord(path[1]):x}{path[2:]}", f"/{first}//{rest}"]
    with proxy.client() as client:
        for one in written:
            for target in (f"{ROOT}{one}", f"{ROOT}{ROOT}{one}", one):
                with raw(client, target) as response:
                    assert response.status_code in (400, 403, 404), target
        headers = {"PATH_INFO": path, "X-Original-URL": path, "X-Forwarded-Prefix": path, "SCRIPT_NAME": path}
        assert client.get("/health/live", headers=headers).json()["data"] == {"status": "healthy"}


def test_nothing_else_is_handed_on(proxy: ReverseProxy) -> None:
    with proxy.client() as client:
        paths = client.get("/openapi.json").json()["paths"]
        asked = {
            (method.upper(), path) for path, methods in paths.items() for method in methods if method != "parameters"
        }
        refused = {
            (method, path)
            for method, path in asked
            if client.request(method, re.sub("{.*?}", "x", path)).status_code == 403
        }
    assert refused == {(method, path) for method, path in asked if not OPEN.fullmatch(f"{method} {path}")}
    assert ("POST", "/models") in refused


def test_no_other_call_is_handed_on(proxy: ReverseProxy) -> None:
    """Whoever is refused by a proxy gets PERMISSION_DENIED; with a wrong key Headrace says UNAUTHENTICATED."""
    credentials = grpc.ssl_channel_credentials(proxy.ca.read_bytes())
    refused, asked = set(), set()
    with grpc.secure_channel(f"localhost:{proxy.port}", credentials) as channel:
        for service in pb.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                asked.add(method.name)
                call = channel.unary_stream(f"/{service.full_name}/{method.name}", request_serializer=None)
                with pytest.raises(grpc.RpcError) as caught:
                    list(call(b"", timeout=PATIENCE_S))
                if caught.value.code() is grpc.StatusCode.PERMISSION_DENIED:
                    refused.add(method.name)
                else:
                    assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED, method.name
    assert refused == {name for name in asked if not OPEN.fullmatch(name)}
    assert "CreateKey" in refused


def test_grpc_comes_through(proxy: ReverseProxy) -> None:
    credentials = grpc.ssl_channel_credentials(proxy.ca.read_bytes())
    with grpc.secure_channel(f"localhost:{proxy.port}", credentials) as channel:
        client = Client.over(channel)
        whole = client.call("CreateChatCompletion", chat_request(max_tokens=20)).choices[0].message.content
        pieces = list(client.call("CreateChatCompletionStream", chat_request(max_tokens=20)))
        assert [len(text.split()) for text in (whole, text_of(pieces))] == [20, 20]
        endless = client.call("CreateChatCompletionStream", chat_request(max_tokens=90_000))
        assert [next(endless).seq for _ in range(3)] == [1, 2, 3]
        endless.cancel()
        with pytest.raises(grpc.RpcError) as caught:
            client.call("CreateChatCompletion", chat_request(model="never-was"))
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        found = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE_S)
        assert found.status == health_pb2.HealthCheckResponse.SERVING


def ports(stack: Stack) -> list[int]:
    """Of both web processes."""
    return [stack.settings.http_port, int(_environ(stack, "web-2", "HEADRACE_HTTP_PORT"))]


def _environ(stack: Stack, name: str, variable: str) -> str:
    return psutil.Process(stack.processes[name].pid).environ()[variable]


def both_answer(stack: Stack) -> bool:
    for port in ports(stack):
        try:
            httpx.get(f"http://127.0.0.1:{port}/health/live").raise_for_status()
        except httpx.TransportError:
            return False
    return True


@contextmanager
def raw(client: httpx.Client, target: str) -> Iterator[httpx.Response]:
    """A request whose path is sent as it is written."""
    request = client.build_request("GET", "/")
    request.url = request.url.copy_with(raw_path=target.encode())
    response = client.send(request, stream=True)
    try:
        yield response
    finally:
        response.close()
