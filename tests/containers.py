"""The images, built and run for real where there is no Docker: `python -m tests.containers` (`make containers`).

buildah builds docker/Dockerfile, podman runs what it has built: Compose brings up docker/compose.yaml over podman's
socket, with the commands of docs/containers.md, and the pods of the Helm chart run one by one (tests/pods.py). Three
things are others than in the files, since no registry of images need be reached: the base is Debian with its Python
3.11, Redis is Debian's, and PyTorch may come from a folder of wheels (`--wheels FOLDER`: what `pip download -d FOLDER
torch==2.13.0` has got). Needs root on Debian, and some 10 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx

from tests import debian, pages
from tests.pods import Cluster
from tests.stack import REPOSITORY, eventually, lines_of

PACKAGES = ("buildah", "podman", "runc", "debootstrap", "golang-github-containernetworking-plugin-dnsname")
BASE, REDIS = "localhost/headrace-test-base", "localhost/headrace-test-redis"
IMAGES = {"web": "localhost/headrace-web", "worker": "localhost/headrace-worker"}
#: Where certificates of package indexes lie, on both sides.
CERTIFICATES = "/etc/ssl/certs"
#: How long a step may take: the first build downloads and unpacks everything.
STEP_S = 3600
#: What this machine allows; podman's defaults may be more.
PODMAN = """[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
runtime = "runc"
"""


def main() -> None:
    """Install, build, run, ask, stop, and take everything away."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--wheels", type=Path, help="a folder with PyTorch's wheel and those that it asks for")
    wheels = parser.parse_args().wheels
    if problem := debian.install(PACKAGES):
        sys.exit(problem)
    with tempfile.TemporaryDirectory(prefix="headrace-containers-") as name:
        folder = Path(name)
        make_base(folder)
        for target in IMAGES:
            build(target, _index(wheels) if wheels and target == "worker" else None)
        with engine(folder):
            check_image()
            try_compose(folder)
            try_chart(folder)
    say("all is well")


def say(text: str) -> None:
    print(f"containers | {text}", flush=True)


def run(*command: str | Path, timeout_s: float = STEP_S, cwd: Path = REPOSITORY) -> str:
    """What a command prints. It must succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout_s, check=False, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout[-4000:]}{done.stderr[-4000:]}"
    return done.stdout


def make_base(folder: Path) -> None:
    """The images that take the place of Python's and Redis' own, unless they are there."""
    if subprocess.run(["buildah", "inspect", REDIS], capture_output=True, check=False).returncode == 0:
        return
    say("making a base of Debian's packages")
    sources = "".join(path.read_text() for path in Path("/etc/apt").rglob("*.sources"))
    sources += "".join(path.read_text() for path in Path("/etc/apt").rglob("*.list"))
    mirror = re.search(r"https?://[^\s]*debian/?(?=\s)", sources)
    include = "--include=python3,python3-venv,ca-certificates,redis-server"
    run("debootstrap", "--variant=minbase", include, "bookworm", folder / "root", *([mirror[0]] if mirror else []))
    for image, extra in ((BASE, ""), (REDIS, "RUN install -d -o redis -g redis /data\nVOLUME /data\n")):
        (folder / "Dockerfile").write_text(
            f"FROM scratch\nCOPY root /\nENV PATH=/usr/bin:/bin:/usr/sbin:/sbin\n{extra}"
        )
        run("buildah", "bud", "--isolation", "chroot", "--format", "docker", "-t", image, folder)
    shutil.rmtree(folder / "root")


def build(target: str, index: Path | None = None) -> None:
    """One image of docker/Dockerfile; `index`: a folder that takes the place of PyTorch's package index."""
    say(f"building {target}")
    options = ["--isolation", "chroot", "--layers", "--format", "docker", "--build-arg", f"PYTHON={BASE}"]
    options += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
    if index:
        options += ["--volume", f"{index}:/index:ro", "--build-arg", "TORCH_INDEX=file:///index"]
    run("buildah", "bud", *options, "-f", "docker/Dockerfile", "--target", target, "-t", IMAGES[target], ".")


def _index(wheels: Path) -> Path:
    """The folder as a package index: a page for each package, with its files."""
    for wheel in wheels.glob("*.whl"):
        page = wheels / re.sub(r"[-_.]+", "-", wheel.name.split("-")[0]).lower() / "index.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text(f'<a href="../{wheel.name.replace("+", "%2B")}">{wheel.name}</a>')
    return wheels.absolute()


@contextlib.contextmanager
def engine(folder: Path) -> Iterator[None]:
    """podman's service as Docker's socket, and Docker's commands as the page has them."""
    (folder / "containers.conf").write_text(PODMAN)
    override = {
        name: {"image": IMAGES["web"], "build": None} for name in ("web", "rpc", "keeper", "provider", "flower")
    }
    override |= dict.fromkeys(("keys", "deploy"), override["web"])
    override |= {"worker": {"image": IMAGES["worker"], "build": None}, "redis": {"image": REDIS}}
    text = json.dumps({"services": override}).replace('"build": null', '"build": !reset null')
    (folder / "override.yaml").write_text(text)
    shim = folder / "bin" / "docker"
    shim.parent.mkdir()
    # `docker compose [-f FILE] ARGS`: with the override, and nothing to build.
    shim.write_text(
        '#!/bin/sh\nset -eu\nshift\n[ "$1" != -f ] || shift 2\nfor word do shift; '
        'case "$word" in --build) ;; exec) set -- "$@" exec -T ;; *) set -- "$@" "$word" ;; esac; done\n'
        f"exec {sysconfig.get_path('scripts')}/docker-compose -f {REPOSITORY}/docker/compose.yaml "
        f'-f {folder}/override.yaml "$@"\n'
    )
    shim.chmod(0o755)
    os.environ |= {
        "PATH": f"{shim.parent}:{os.environ['PATH']}",
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "DOCKER_HOST": f"unix://{folder}/docker.sock",
    }
    service = subprocess.Popen(["podman", "system", "service", "--time=0", os.environ["DOCKER_HOST"]])
    try:
        eventually((folder / "docker.sock").exists, "podman answers")
        yield
    finally:
        service.terminate()
        service.wait()


def check_image() -> None:
    """Who it runs as, what it may write to, and that only what belongs there is in it."""
    script = "id -u; touch /data/a /tmp/a; ! touch /opt/a 2>/dev/null; python -m pip list | wc -l; ls / /secrets/admin"
    for image in IMAGES.values():
        said = run("podman", "run", "--rm", "--read-only", "--network=none", image, "sh", "-euc", script).split()
        assert said[0] == "10001", said
        assert not {"source", "wheels", "locks", "app"} & set(said), said
        places = run(
            "podman", "run", "--rm", "--network=none", image, "python", "-c", "import cli; print(cli.__file__)"
        )
        assert places.startswith("/opt/headrace/lib/"), places


def try_compose(folder: Path) -> None:
    """The page's commands, from `up` to a backup; and a worker that is stopped in mid-answer."""
    (up, ask), backup = blocks()[:2], blocks()[-1]
    stop = threading.Event()
    checks = threading.Thread(target=_check_health, args=(stop,))
    checks.start()  # podman leaves that to systemd, which need not be there
    try:
        say("docker compose up")
        run("sh", "-euc", up)
        eventually(lambda: _state("deploy") == "exited 0", "the model is deployed", STEP_S)
        answer = json.loads(run("sh", "-euc", ask))
        say(f"it answers: {answer['choices'][0]['message']['content']!r}")
        eventually(lambda: all(_state(name) == "running healthy" for name in _services()), "all are healthy", 300)
        _stop_in_mid_answer(run("docker", "compose", "exec", "web", "cat", "/secrets/admin/bootstrap").strip())
        say("everything again: what was deployed comes back")
        run("sh", "-euc", up)
        eventually(lambda: "deployed already" in run("docker", "compose", "logs", "deploy"), "it is deployed", STEP_S)
        assert json.loads(run("sh", "-euc", ask))["choices"][0]["finish_reason"]
        run("sh", "-euc", backup.replace("./backup", str(folder / "backup")))
        assert list((folder / "backup").rglob("*.aof")), "the backup has the append-only file"
    finally:
        stop.set()
        checks.join()
        say(run("docker", "compose", "ps", "--all", "--format", "{{.Name}}: {{.Status}}"))
        run("docker", "compose", "down", "--volumes", "--timeout", "5")


def try_chart(folder: Path) -> None:
    """The pods of the Helm chart, each with its probes; the model that its Job deploys answers; each ends in peace."""
    cluster = Cluster(folder / "pods", IMAGES, f"{REDIS}:latest")
    try:
        for name in cluster.names():
            cluster.start(name)
            say(f"pod {name} is ready")
        assert "completed" in cluster.run("pods-deploy")
        body = {"model": "smollm2-135m", "messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 8}
        headers = {"Authorization": f"Bearer {cluster.secret('bootstrap-key')}"}
        answer = httpx.post("http://127.0.0.1:8000/v1/chat/completions", json=body, headers=headers, timeout=300)
        assert answer.status_code == 200, answer.text
        queue = httpx.get("http://127.0.0.1:8000/queue?model=smollm2-135m", headers=headers, timeout=60).json()
        assert queue["data"]["models"][0]["replicas"] == 1
        ended = {name: cluster.stop(name) for name in reversed(cluster.names())}
        assert not any(ended.values()), ended
        say("all pods have ended in peace")
    finally:
        cluster.close()


def _stop_in_mid_answer(key: str) -> None:
    """`docker compose stop worker` while it streams: the stream ends whole, and then the container."""
    say("docker compose stop worker, in mid-answer")
    body = {
        "model": "smollm2-135m",
        "messages": [{"role": "user", "content": "Tell me a story."}],
        "max_tokens": 60,
        "stream": True,
    }
    headers = {"Authorization": f"Bearer {key}"}
    request = httpx.stream("POST", "http://localhost:8000/v1/chat/completions", json=body, headers=headers, timeout=300)
    with request as response:
        assert response.status_code == 200
        lines = lines_of(response.iter_text())
        next(line for line in lines if '"content":"' in line)
        stopping = threading.Thread(target=run, args=("docker", "compose", "stop", "worker"))
        stopping.start()
        rest = [line for line in lines if line]
    stopping.join()
    assert rest[-1] == "data: [DONE]", rest[-3:]
    assert any('"finish_reason":"' in line for line in rest)
    assert _state("worker").startswith("exited 0"), _state("worker")
    logs = run("docker", "compose", "logs", "worker")
    assert "1 model workers end when their requests have, within 100 s" in logs
    assert "all have ended" in logs


def blocks() -> list[str]:
    """The page's blocks of commands that are run here."""
    return [block.text for block in pages.blocks("docs/containers.md") if block.run_by]


def _check_health(stop: threading.Event) -> None:
    while not stop.wait(3):
        for container in subprocess.run(
            ["podman", "ps", "-q"], capture_output=True, text=True, check=False
        ).stdout.split():
            subprocess.run(["podman", "healthcheck", "run", container], capture_output=True, check=False)


def _services() -> list[str]:
    return ["redis", "web", "rpc", "keeper", "provider", "flower", "worker"]


def _state(service: str) -> str:
    """The state of a container, with its exit status, or its health."""
    done = subprocess.run(
        ["podman", "inspect", f"headrace-{service}-1"], capture_output=True, text=True, timeout=60, check=False
    )
    if done.returncode:
        return "missing"
    state = json.loads(done.stdout)[0]["State"]
    health = state.get("Healthcheck", state.get("Health", {})).get("Status", "")
    return f"{state['Status']} {health if state['Status'] == 'running' else state['ExitCode']}"


if __name__ == "__main__":
    main()
