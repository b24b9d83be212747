"""`headrace up`: start everything, show the startup of the demo model, stream one answer, and keep running."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx
import redis

from cli import client as api
from cli import leftovers
from cli.api.connection import connect as connect_http
from cli.api.connection import http_url, remedy
from cli.api.progress import events
from cli.output import is_closed, say, show, shown_secret
from cli.preflight import (
    check_data_dir,
    check_models,
    check_ports,
    check_redis,
    check_tls,
    left_out,
    not_read,
    wait_for_redis,
)
from cli.supervisor import Supervisor, process_table
from gateway.access import plaintext
from gateway.access.api_keys import Credentials
from gateway.access.bootstrap import bootstrap, origins
from gateway.access.key_secrets import require_strong
from gateway.access.secret_files import secret_file
from gateway.cluster.join_address import join_url
from gateway.errors import Conflict, HeadraceError, StoreLost
from gateway.process import log_files
from gateway.process.locks import hold_lock, lock_holder
from gateway.queue.names import slug
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW, connect
from gateway.store.embedded import memory_limit, require_free
from gateway.store.installation import REMEDY, Installation
from gateway.store.redis_url import masked
from gateway.tracing import start as tracing

#: Secrets in the data folder, and what they are.
SECRETS = {"bootstrap": "API key", "flower.password": "Flower"}
#: The lock of the supervisor itself.
SUPERVISOR = "up"
#: How often the supervisor checks its processes.
LOOK_S = 0.1
#: How long to wait until requests are taken, and then for the demo model.
READY_TIMEOUT_S, DEMO_TIMEOUT_S = 120.0, 180.0
QUESTION = "What is a water turbine? Answer in two sentences."


def up(settings: Settings, *, accept_empty_redis: bool = False) -> None:
    """Run until SIGINT or SIGTERM, or the terminal or pipe is closed. Raises: HeadraceError if it can't start."""
    settings = replace(settings, data_dir=settings.data_dir.absolute())
    with supervised(settings, check=lambda: _check(settings)) as supervisor:
        _run(settings, supervisor, accept_empty_redis=accept_empty_redis)


@contextlib.contextmanager
def supervised(settings: Settings, *, check: Callable[[], None]) -> Iterator[Supervisor]:
    """Take the data folder, whose path is absolute, and end what runs there at the end of the block.

    `check` is called before anything is started, and may raise.

    Raises: Conflict if another one has the folder; InvalidSetting, Unavailable.
    """
    check_data_dir(settings)
    for line in not_read(settings):
        say(line)
    lock = take_folder(settings.data_dir)
    try:
        end_leftovers(settings.data_dir)
        if workers := model_workers(settings):
            say(f"these live on, and are adopted if they are still wanted: {', '.join(workers)}")
        check()
        supervisor = Supervisor(
            folder=settings.data_dir, environ=settings.environ(), say=say, shutdown_s=settings.shutdown_s
        )
        for number in _endings():
            signal.signal(number, lambda *_: supervisor.stopping.set())
        try:
            yield supervisor
        finally:
            say("stopping")
            supervisor.end_users()
            # Model workers of an earlier supervisor are not our children.
            leftovers.end(settings.data_dir, model_workers(settings), grace_s=leftovers.END_S + settings.shutdown_s)
            supervisor.end()
            say("stopped; nothing is left running")
    finally:
        os.close(lock)


def watch(supervisor: Supervisor, settings: Settings) -> None:
    """Keep all that was started running, and its logs short, until it is to end."""
    rotated_at = time.monotonic()
    while not supervisor.stopping.wait(LOOK_S):
        supervisor.reap_and_restart()
        if time.monotonic() > rotated_at + log_files.LOOK_S:
            log_files.rotate_all(settings)
            rotated_at = time.monotonic()
        if signal.SIGHUP in _endings() and is_closed():
            return


def ready_path(settings: Settings) -> Path:
    """A file that is there when all is up."""
    return settings.data_dir.absolute() / "run" / "ready"


def _check(settings: Settings) -> None:
    """Raises: InvalidSetting, Conflict."""
    if not settings.redis_url:
        require_free(settings.data_dir)
    require_strong(settings.bootstrap_key)
    check_ports(settings)
    for problem in check_models(settings):
        say(f"a mistake in {problem}")
    check_tls(settings)
    tracing.require(settings)
    if text := plaintext.warning(settings):
        say(text)


def take_folder(data_dir: Path) -> int:
    """Take the data folder for this process. Raises: Conflict if another `headrace up` has it."""
    lock = hold_lock(data_dir, SUPERVISOR)
    if lock is None:
        raise Conflict(
            f"Headrace runs already in {data_dir} (process {supervisor_of(data_dir)}); see 'headrace status'."
        )
    return lock


def supervisor_of(data_dir: Path) -> int:
    """The process that runs `headrace up` here, or 0."""
    holder = lock_holder(data_dir, SUPERVISOR)
    return holder.pid if holder else 0


def end_leftovers(data_dir: Path) -> None:
    """End the processes of a `headrace up` that was killed. Model workers stay: the new agent adopts or ends them.

    Raises:
        Unavailable: one of them does not end.
    """
    running = leftovers.running(data_dir)
    ours = [name for name in running if name in process_table()]
    if ours:
        say(f"an earlier 'headrace up' was killed; ending what is left of it: {', '.join(ours)}")
        leftovers.end(data_dir, ours)


def model_workers(settings: Settings) -> list[str]:
    """The locks of this device's living model workers."""
    suffix = f".{slug(settings.node)}.{slug(settings.device)}"
    return [name for name in leftovers.running(settings.data_dir) if suffix in name and not name.startswith("agent.")]


def claim_redis(client: redis.Redis, settings: Settings, *, accept: bool) -> None:
    """Raises: StoreLost if this Redis lacks the data of this data folder, unless `accept`."""
    installation = Installation(client, settings.data_dir)
    if accept:
        installation.accept()
    elif installation.begin():
        raise StoreLost(f"Redis at {masked(settings.effective_redis_url)} has lost its data. {REMEDY}")


def _run(settings: Settings, supervisor: Supervisor, *, accept_empty_redis: bool) -> None:
    table = process_table()
    redis_command = table.pop("redis")
    if not settings.redis_url:
        supervisor.start("redis", redis_command)
    client = connect(settings)
    wait_for_redis(client, settings.effective_redis_url)
    say(f"Redis {'at ' + masked(settings.redis_url) if settings.redis_url else '(embedded)'}: {check_redis(client)}")
    if not settings.redis_url:
        most = f"{memory_limit(settings) / 2**30:.1f} GiB"
        say(f"Redis takes {most} of memory at most, and evicts nothing (HEADRACE_REDIS_MEMORY_BYTES)")
    claim_redis(client, settings, accept=accept_empty_redis)
    key = _first_key(client, settings)
    for name, is_wanted in (("listener", settings.listen), ("flower", settings.flower)):
        if not is_wanted:
            table.pop(name)
    for name, why in left_out(settings).items():
        table.pop(name, None)
        supervisor.leave_out(name, why)
    for name, command in table.items():
        supervisor.start(name, command)
    say(f"started {', '.join(table)}; logs are in {settings.data_dir / 'logs'}")
    threading.Thread(target=_welcome, args=(settings, supervisor, key), daemon=True).start()
    watch(supervisor, settings)


def _first_key(client: redis.Redis, settings: Settings) -> str:
    """The bootstrap key; empty, said with what to do, if it can't be used: others can. Raises: InvalidSetting."""
    key = secret_file(settings, "bootstrap", settings.bootstrap_key)
    try:
        bootstrap(Credentials(client), key, *origins(settings))
    except Conflict as error:
        say(f"the bootstrap key can't be used. {error.message} {remedy(settings)}")
        return ""
    return key


def _endings() -> list[signal.Signals]:
    """The signals that end everything. SIGHUP is not one of them if it is ignored, as under nohup."""
    every = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
    return [number for number in every if signal.getsignal(number) is not signal.SIG_IGN]


def _welcome(settings: Settings, supervisor: Supervisor, key: str) -> None:
    """Show the startup of the demo model, one streamed answer, and the next steps."""
    url = http_url(settings)
    model = "" if supervisor.leaves_out("demo") or not key else settings.demo_model
    shown = shown_secret(settings, "bootstrap") if key else "YOUR_KEY"
    try:
        with connect_http(settings, None, key) as client:
            if _await_web(supervisor, client):
                supervisor.note_ready()
            if model and _bring_up_demo(client, supervisor, model):
                _stream_one_answer(client, model)
    except (HeadraceError, httpx.HTTPError, *NOT_NOW) as error:
        say(f"the demo did not answer: {error}")
    if supervisor.stopping.is_set():
        return
    model = model or "MODEL"
    joined = f"\n  Join      {join_url(settings.listen)}   ('headrace token create')" if settings.listen else ""
    show(
        f"""
  Dashboard {url}   (sign in with the API key below)
  API       {url}   (documentation: {url}/docs)
  gRPC      {settings.grpc_host}:{settings.grpc_port}   ({_transport(settings)})
  Flower    {_flower(settings)}
  API key   {shown}{joined}

  curl -N {_trust(settings)}{url}/models/{model}/chat/completions \\
    -H "Authorization: Bearer {shown}" -H 'Content-Type: application/json' \\
    -d '{{"messages": [{{"role": "user", "content": "Hello!"}}], "stream": true}}'

  headrace chat {model}      headrace status      headrace logs      Ctrl-C ends everything
"""
    )
    ready_path(settings).touch()


def _flower(settings: Settings) -> str:
    """Where it is, and how to sign in."""
    if not settings.flower:
        return "off (HEADRACE_FLOWER)"
    password = shown_secret(settings, "flower.password")
    return f"http://{settings.flower_host}:{settings.flower_port}   (admin / {password})"


def _transport(settings: Settings) -> str:
    """How a gRPC client connects."""
    if settings.grpc_plaintext:
        return "plaintext"
    return "TLS, HEADRACE_TLS_CERT" if settings.tls_cert else f"TLS, CA: {settings.tls_dir / 'ca.pem'}"


def _trust(settings: Settings) -> str:
    """What makes curl trust the development certificate."""
    trusts_it = settings.http_tls != "on" or settings.tls_cert
    return "" if trusts_it else f"--cacert {shlex.quote(str(settings.tls_dir / 'ca.pem'))} "


def _await_web(supervisor: Supervisor, client: httpx.Client) -> bool:
    """Wait until requests are taken. Returns whether they are: a keeper that does not come is said elsewhere."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while not _answers(client, "/health/ready"):
        if time.monotonic() > deadline or supervisor.stopping.wait(LOOK_S):
            return False
    return True


def _bring_up_demo(client: httpx.Client, supervisor: Supervisor, model: str) -> bool:
    """Deploy the demo model unless it is deployed, and show the progress. Returns whether it answers."""
    started = time.monotonic()
    while not supervisor.stopping.wait(LOOK_S) and time.monotonic() < started + DEMO_TIMEOUT_S:
        status = _status(client, model)
        if status == "active" and _answers(client, "/health/ready"):
            say(f"{model}: active, after {time.monotonic() - started:.1f} s")
            return True
        if status in ("inactive", "available", "failed"):
            _deploy(client, model)
    if not supervisor.stopping.is_set():
        say(f"{model} is not up; see 'headrace logs' for the reason")
    return False


def _status(client: httpx.Client, model: str) -> str:
    response = client.get(f"/models/{model}")
    return str(response.json()["data"]["status"]) if response.is_success else ""


def _deploy(client: httpx.Client, model: str) -> None:
    """Run a deployment to its end, with a line for each stage. Raises: ServerError if it fails."""
    response = client.post("/models/local/deploy", json={"model_type": model})
    if response.status_code == 503:  # the agent has not sent a heartbeat yet
        return
    api.raise_for_error(response)
    deployment_id = response.json()["data"]["deployment_id"]
    for event in events(client, f"/models/local/deployments/{deployment_id}"):
        if event["event"] == "stage" and event["status"] in ("completed", "failed"):
            say(f"{model}: {event['stage']} {event['status']}")
    end = client.get(f"/models/local/deployments/{deployment_id}").json()["data"]
    if end["error"]:
        raise api.ServerError(f"{end['error']['reason']}: {end['error']['message']} {end['error'].get('remedy', '')}")


def _answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.HTTPError:
        return False


def _stream_one_answer(client: httpx.Client, model: str) -> None:
    show(f"\n  you       {QUESTION}\n  {model}  ", nl=False)
    answer = api.chat(client, model, [{"role": "user", "content": QUESTION}], max_tokens=80, temperature=0)
    for text in answer:
        show(text, nl=False)
    show("")
