"""`headrace up`: start everything, show the demo model's way up, stream one answer, and stay."""

from __future__ import annotations

import fcntl
import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path

import click
import httpx

from cli import client as api
from cli.deployments import events
from cli.preflight import (
    check_data_dir,
    check_grpc,
    check_models,
    check_ports,
    check_redis,
    secret_file,
    wait_for_redis,
)
from cli.processes import Supervisor, process_table
from gateway.certificates import tls_folder
from gateway.credentials import Credentials
from gateway.errors import Conflict, HeadraceError
from gateway.redis import NOT_NOW, connect
from gateway.settings import Settings

#: How often the supervisor looks at its processes.
LOOK_S = 0.1
#: A model that is not up after so long is reported, and waited for no longer.
DEMO_TIMEOUT_S = 180.0
QUESTION = "What is a water turbine? Answer in two sentences."


def up(settings: Settings) -> None:
    """Run until SIGINT or SIGTERM. Raises: HeadraceError if it can't start."""
    settings = replace(settings, data_dir=settings.data_dir.absolute())
    check_data_dir(settings)
    lock = hold_lock(settings)
    try:
        check_ports(settings)
        check_models(settings)
        check_grpc(settings)
        supervisor = Supervisor(folder=settings.data_dir, environ=settings.environ(), say=say)
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: supervisor.stopping.set())
        try:
            _run(settings, supervisor)
        finally:
            say("stopping")
            supervisor.end()
            say("stopped; nothing is left running")
    finally:
        os.close(lock)


def say(text: str) -> None:
    """One line for whoever looks at the terminal."""
    click.echo(f"headrace | {text}")


def hold_lock(settings: Settings) -> int:
    """Take the data folder for this process. Raises: Conflict if another `headrace up` has it."""
    path = lock_path(settings.data_dir)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(handle, 32).decode()
        raise Conflict(
            f"Headrace runs already in {settings.data_dir} (process {pid}); see 'headrace status'."
        ) from None
    os.set_inheritable(handle, False)
    os.ftruncate(handle, 0)
    os.write(handle, str(os.getpid()).encode())
    return handle


def holder(data_dir: Path) -> int:
    """The process that runs `headrace up` here, or 0."""
    try:
        handle = os.open(lock_path(data_dir), os.O_RDWR)
    except FileNotFoundError:
        return 0
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(os.read(handle, 32) or b"0")
    else:
        return 0
    finally:
        os.close(handle)


def lock_path(data_dir: Path) -> Path:
    """Where `headrace up` keeps its lock."""
    return data_dir / "run" / "up.lock"


def _run(settings: Settings, supervisor: Supervisor) -> None:
    table = process_table()
    redis_command = table.pop("redis")
    if not settings.redis_url:
        supervisor.start("redis", redis_command)
    client = connect(settings)
    wait_for_redis(client, settings.effective_redis_url)
    say(f"Redis {'at ' + settings.redis_url if settings.redis_url else '(embedded)'}: {check_redis(client)}")
    key = secret_file(settings, "bootstrap", settings.bootstrap_key)
    Credentials(client).bootstrap(key)
    for name, command in table.items():
        supervisor.start(name, command)
    say(f"started {', '.join(table)}; logs are in {settings.data_dir / 'logs'}")
    threading.Thread(target=_welcome, args=(settings, supervisor, key), daemon=True).start()
    while not supervisor.stopping.wait(LOOK_S):
        supervisor.look()


def _welcome(settings: Settings, supervisor: Supervisor, key: str) -> None:
    """Show the model's way up, one streamed answer, and how to go on."""
    url = api.http_url(settings)
    try:
        if settings.demo_model and _bring_up_demo(settings, supervisor, url, key):
            _stream_one_answer(url, key, settings.demo_model)
    except (HeadraceError, httpx.HTTPError, *NOT_NOW) as error:
        say(f"the demo did not answer: {error}")
    if supervisor.stopping.is_set():
        return
    model = settings.demo_model or "MODEL"
    click.echo(
        f"""
  API       {url}   (documentation: {url}/docs)
  gRPC      {settings.grpc_host}:{settings.grpc_port}   ({_transport(settings)})
  Flower    http://{settings.flower_host}:{settings.flower_port}   (admin / {secret_file(settings, "flower.password")})
  API key   {key}

  curl -N {url}/models/{model}/chat/completions \\
    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{"messages": [{{"role": "user", "content": "Hello!"}}], "stream": true}}'

  headrace chat {model}      headrace status      headrace logs      Ctrl-C ends everything
"""
    )
    (settings.data_dir / "run" / "ready").touch()


def _transport(settings: Settings) -> str:
    """How a gRPC client connects."""
    if settings.grpc_plaintext:
        return "plaintext"
    return "TLS, HEADRACE_TLS_CERT" if settings.tls_cert else f"TLS, CA: {tls_folder(settings) / 'ca.pem'}"


def _bring_up_demo(settings: Settings, supervisor: Supervisor, url: str, key: str) -> bool:
    """Deploy the demo model if nobody did yet, and say how far it is. True when it answers."""
    model = settings.demo_model
    started = time.monotonic()
    while not _answers(f"{url}/health/live") and not supervisor.stopping.wait(LOOK_S):
        continue
    with api.connect(url, key) as client:
        while not supervisor.stopping.wait(LOOK_S) and time.monotonic() < started + DEMO_TIMEOUT_S:
            status = _status(client, model)
            if status == "active" and _answers(f"{url}/health/ready"):
                say(f"{model}: active, after {time.monotonic() - started:.1f} s")
                return True
            if status in ("inactive", "failed"):
                _deploy(client, model)
    if not supervisor.stopping.is_set():
        say(f"{model} is not up; see 'headrace logs' for the reason")
    return False


def _status(client: httpx.Client, model: str) -> str:
    response = client.get(f"/models/{model}")
    return str(response.json()["data"]["status"]) if response.is_success else ""


def _deploy(client: httpx.Client, model: str) -> None:
    """One deployment to its end, a line for each stage. Raises: ServerError if it fails."""
    response = client.post("/models/local/deploy", json={"model_type": model})
    if response.status_code == 503:  # the agent has not said yet that it lives
        return
    api.raise_for_error(response)
    deployment_id = response.json()["data"]["deployment_id"]
    for event in events(client, deployment_id):
        if event["event"] == "stage" and event["status"] in ("completed", "failed"):
            say(f"{model}: {event['stage']} {event['status']}")
    end = client.get(f"/models/local/deployments/{deployment_id}").json()["data"]
    if end["error"]:
        raise api.ServerError(f"{end['error']['reason']}: {end['error']['message']} {end['error'].get('remedy', '')}")


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=5, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def _stream_one_answer(url: str, key: str, model: str) -> None:
    click.echo(f"\n  you       {QUESTION}\n  {model}  ", nl=False)
    with api.connect(url, key) as client:
        answer = api.chat(client, model, [{"role": "user", "content": QUESTION}], max_tokens=80, temperature=0)
        for text in answer:
            click.echo(text, nl=False)
    click.echo()
