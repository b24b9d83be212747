"""The compose files, as Compose itself understands them: nothing is open, writable, unchecked or cut off."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from cli.deployments import deploy
from cli.probe import PROBES
from gateway.settings import Settings
from workers.agent.container import AGENT_END_S, WORKER_END_S

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"
#: Those that end by themselves.
ONCE = {"keys", "deploy"}
#: Of processes that run for long: the name that `cli.probe` knows them by.
PROBED = {"web": "web", "rpc": "rpc", "keeper": "keeper", "provider": "provider", "flower": "flower"}


def rendered(*files: str, **environ: str) -> dict[str, Any]:
    """What Compose makes of its files."""
    compose = Path(sysconfig.get_path("scripts")) / "docker-compose"
    options = [word for name in files for word in ("-f", str(DOCKER / name))]
    done = subprocess.run(
        [compose, *options, "config", "--format", "json"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = rendered("compose.yaml")["services"]
    return found


def test_the_files_are_clean_yaml() -> None:
    rules = "{extends: default, rules: {line-length: {max: 120}, document-start: disable, braces: disable}}"
    yamllint = Path(sysconfig.get_path("scripts")) / "yamllint"
    done = subprocess.run(
        [yamllint, "-d", rules, *DOCKER.glob("*.yaml")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_all_processes_are_there(services: dict[str, Any]) -> None:
    assert services.keys() == {*PROBED, "redis", "worker", *ONCE}


def test_nothing_listens_for_other_machines_unless_it_is_asked_for(services: dict[str, Any]) -> None:
    ports = {name: [port["host_ip"] for port in one.get("ports", ())] for name, one in services.items()}
    assert ports == {name: ["127.0.0.1"] if name in ("web", "rpc", "flower") else [] for name in services}
    opened = rendered("compose.yaml", HEADRACE_ADDRESS="10.0.0.1")["services"]
    assert [opened[name]["ports"][0]["host_ip"] for name in ("web", "rpc", "flower")] == ["10.0.0.1"] * 2 + [
        "127.0.0.1"
    ]


def test_no_secret_is_in_the_files_or_in_an_environment(services: dict[str, Any]) -> None:
    variables = {name for one in services.values() for name in one.get("environment") or ()}
    assert not [name for name in variables if re.search("KEY|PASSWORD|TOKEN|URL", name) and not name.endswith("_FILE")]
    holders = {name for name, one in services.items() if "admin-key" in str(one["volumes"])}
    assert holders == {"keys", "web", "rpc", "deploy"}


def test_every_service_is_confined(services: dict[str, Any]) -> None:
    for name, one in services.items():
        assert (one["read_only"], one["cap_drop"], one["security_opt"]) == (
            True,
            ["ALL"],
            ["no-new-privileges:true"],
        ), name


def test_every_service_that_stays_is_checked_and_comes_back(services: dict[str, Any]) -> None:
    for name in services.keys() - ONCE:
        assert services[name]["restart"] == "unless-stopped"
    checks = {name: one.get("healthcheck", {}) for name, one in services.items()}
    assert all(checks[name] == {"disable": True} for name in ONCE)
    # web and worker have that of their image.
    assert {name for name in PROBED if not checks[name]} == {"web"}
    assert all(checks[name]["test"][-2:] == ["cli.probe", PROBED[name]] for name in PROBED if name != "web")
    assert set(PROBED.values()) | {"agent"} == set(PROBES)


def test_redis_keeps_what_it_has_accepted(services: dict[str, Any]) -> None:
    redis = services["redis"]
    assert re.fullmatch(r"docker\.io/library/redis:\d+\.\d+\.\d+-\w+@sha256:[0-9a-f]{64}", redis["image"])
    words = " ".join(redis["command"])
    assert "redis.conf --dir /data --appendonly yes" in words
    assert "--maxmemory-policy noeviction" in words
    assert [one["target"] for one in redis["volumes"] if one["source"] == "jobs"] == ["/data"]


def test_what_a_worker_downloads_outlives_it(services: dict[str, Any]) -> None:
    targets = {one["target"]: one["type"] for one in services["worker"]["volumes"]}
    assert (targets["/data"], targets["/data/models"]) == ("volume", "volume")


def test_what_drains_is_given_the_time_for_it(services: dict[str, Any]) -> None:
    worker, provider = services["worker"], services["provider"]
    needed_s = float(worker["environment"]["HEADRACE_SHUTDOWN_S"]) + AGENT_END_S + WORKER_END_S
    assert _seconds(worker["stop_grace_period"]) > needed_s
    assert _seconds(provider["stop_grace_period"]) > float(provider["environment"]["HEADRACE_SHUTDOWN_S"]) + 10


def test_every_command_and_variable_exists(services: dict[str, Any]) -> None:
    for one in services.values():
        command = one.get("command") or ["redis-server"]
        if command[:2] == ["python", "-m"]:
            assert importlib.util.find_spec(command[2])
    script = services["deploy"]["command"][2]
    options = {option for parameter in deploy.params for option in parameter.opts}
    assert set(re.findall(r" (--\w+)", script)) == {"--once", "--url"} <= options
    names = {name for one in services.values() for name in one.get("environment") or ()}
    known = {f"HEADRACE_{name.upper()}" for name in Settings.__dataclass_fields__}
    assert {name.removesuffix("_FILE") for name in names if name.startswith("HEADRACE_")} <= known


def test_a_gpu_is_one_file_more() -> None:
    worker = rendered("compose.yaml", "compose.cuda.yaml")["services"]["worker"]
    assert worker["build"]["args"] == {"TORCH": "cu130"}
    assert worker["build"]["target"] == "worker"
    assert worker["environment"]["HEADRACE_DEVICE"] == "cuda0"
    (device,) = worker["deploy"]["resources"]["reservations"]["devices"]
    assert (device["driver"], device["capabilities"]) == ("nvidia", ["gpu"])


def _seconds(text: str) -> float:
    """Of Compose's own way to write a time: 1m45s."""
    minutes, seconds = re.fullmatch(r"(?:(\d+)m)?(?:(\d+)s)?", text).groups()  # type: ignore[union-attr]
    return 60 * int(minutes or 0) + int(seconds or 0)
