"""`headrace doctor` finds nothing on a healthy system, and names each thing that is broken on purpose."""

from __future__ import annotations

import datetime
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from cli.doctor import chaos, remote, store
from cli.doctor.checks import Finding, Level
from cli.doctor.command import examine
from cli.up import SUPERVISOR
from gateway.access.api_keys import Credentials
from gateway.cluster.nodes import Nodes
from gateway.jobs.control import cancel_all
from gateway.jobs.record import Job, JobState, new_job_id
from gateway.process.locks import hold_lock
from gateway.settings import Settings
from gateway.store import keys
from tests.stack import REPOSITORY, Stack, eventually, free_port, running, stopped


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A healthy system, with all that the doctor looks for."""
    with running(tmp_path_factory.mktemp("doctor"), {"fake": {}}) as stack:
        stack.start("provider")
        eventually(stack.registry.providers, "a provider worker")
        eventually(lambda: trusted(stack), "the keeper trusts Redis")
        stack.redis.config_set("maxmemory", 2**30)
        yield stack


def trusted(stack: Stack) -> bool:
    """Whether the keeper judges."""
    beat = stack.redis.get(keys.KEEPER)
    return bool(beat and json.loads(beat)["trusted"])


def findings(settings: Settings, name: str) -> list[Finding]:
    """What a check has found."""
    return [finding for finding in examine(settings) if finding.check == name]


def broken(stack: Stack, name: str, level: Level = Level.PROBLEM) -> str:
    """What the only bad finding of a check says, which is bad as it should be, and has a remedy."""
    (bad,) = [finding for finding in findings(stack.settings, name) if finding.level is not Level.OK]
    assert bad.level is level
    assert bad.remedy
    return bad.found


def run(stack: Stack, *options: str) -> subprocess.CompletedProcess[str]:
    """Run `headrace doctor` on the stack."""
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "doctor", *options],
        cwd=REPOSITORY,
        env={**os.environ, **stack.settings.environ()},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_a_healthy_system_has_no_problem(stack: Stack) -> None:
    said = run(stack)
    assert said.returncode == 0, said.stdout + said.stderr
    assert "fake.n1.cpu0 has answered" in said.stdout
    assert {line.split()[0] for line in said.stdout.splitlines()} == {"ok"}, said.stdout


def test_findings_can_be_read_by_a_program(stack: Stack) -> None:
    stack.redis.config_set("maxmemory-policy", "allkeys-lru")
    try:
        said = run(stack, "--json")
    finally:
        stack.redis.config_set("maxmemory-policy", "noeviction")
    assert said.returncode == 1
    (bad,) = [finding for finding in json.loads(said.stdout) if finding["level"] != "ok"]
    assert (bad["check"], bad["level"]) == ("eviction", "problem")
    assert "noeviction" in bad["remedy"]


@pytest.mark.parametrize(
    ("setting", "value", "check", "level", "says"),
    [
        ("appendonly", "no", "append only", Level.PROBLEM, "is off"),
        ("appendfsync", "no", "append only", Level.WARNING, "power cut"),
        ("maxmemory", "1mb", "memory", Level.PROBLEM, "new jobs are refused"),
        ("maxmemory", "0", "memory", Level.WARNING, "without a maxmemory"),
        ("maxclients", "20", "connections", Level.WARNING, "of 20"),
    ],
)
def test_a_setting_of_redis_is_named(
    stack: Stack, setting: str, value: str, check: str, level: Level, says: str
) -> None:
    before = stack.redis.config_get(setting)[setting]
    if value == "1mb":
        value = str(int(stack.redis.info("memory")["used_memory"] * 1.15))
    elif setting == "maxclients":
        value = str(int(stack.redis.info("clients")["connected_clients"]) + 10)
        says = f"of {value}"
    stack.redis.config_set(setting, value)
    try:
        assert says in broken(stack, check, level)
    finally:
        stack.redis.config_set(setting, before)


def test_no_keeper_and_a_job_in_no_index_are_named(stack: Stack) -> None:
    stack.kill("keeper")
    eventually(lambda: not stack.redis.exists(keys.KEEPER), "its lease is over")
    job = Job(
        new_job_id("completion"), JobState.QUEUED, "completion", "fake", "k", request={"prompt": "x", "max_tokens": 1}
    )
    try:
        stack.store.create(job, ttl_ms=60_000, pinned=True)  # else the replica would be offered it, and take it
        stack.redis.zrem(keys.queued("fake"), job.id)
        assert "no keeper lives" in broken(stack, "keeper")
        assert job.id in broken(stack, "jobs")
    finally:
        stack.start("keeper")
    eventually(lambda: (record := stack.store.read(job.id)) and record.state.ended, "the keeper has found it")
    assert [finding.level for finding in findings(stack.settings, "jobs")] == [Level.OK]


def test_a_keeper_that_stands_still_is_named(stack: Stack) -> None:
    settings = replace(stack.settings, lease_s=20.0)  # it sends one of two seconds, so the last is always old
    (found,) = findings(settings, "keeper")
    assert found.level is Level.WARNING
    assert "s old, and 20 s is when it counts as dead" in found.found
    assert found.remedy


def test_a_machine_of_another_version_is_named(stack: Stack) -> None:
    device = replace(stack.registry.devices()[0], incarnation="agent:old", node="n2", version="0.0.1")
    stack.registry.beat_device(device, lease_s=60)
    try:
        assert broken(stack, "versions", Level.WARNING).startswith("n2.cpu0 runs 0.0.1; this is ")
        with stack.client() as client:
            Nodes(stack.redis).note(device)
            found = list(remote.nodes(remote.Remote(stack.settings, client)))
        assert [one.level for one in found] == [Level.WARNING, Level.OK]
        assert "n2 runs 0.0.1, the gateway" in found[0].found
    finally:
        stack.registry.deregister(device.incarnation)
        Nodes(stack.redis).forget("n2")


def test_a_slow_way_to_redis_is_named(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "SLOW_S", 0.0)
    assert "every token waits for one or more" in broken(stack, "round trip", Level.WARNING)


def test_metrics_are_read_as_prometheus_would(stack: Stack) -> None:
    """With the key of this machine; one that may not is named."""
    credentials = Credentials(stack.redis)
    admin, guest = (credentials.create("m", (scope,))[1] for scope in ("metrics", "inference"))
    (found,) = findings(replace(stack.settings, bootstrap_key=admin), "metrics")
    assert (found.level, "values at /metrics" in found.found) == (Level.OK, True)
    (refused,) = findings(replace(stack.settings, bootstrap_key=guest), "metrics")
    assert (refused.level, "lacks the scope 'metrics'" in refused.found) == (Level.PROBLEM, True)
    assert "headrace key create prometheus --scope metrics" in refused.remedy
    (off,) = findings(replace(stack.settings, metrics="off"), "metrics")
    assert off.found == "off (HEADRACE_METRICS)"
    everybody, _ = findings(replace(stack.settings, metrics="anyone", http_host="0.0.0.0"), "metrics")
    assert (everybody.level, "anybody who reaches 0.0.0.0" in everybody.found) == (Level.WARNING, True)


def test_what_should_answer_and_does_not_is_named(stack: Stack, tmp_path: Path) -> None:
    """Flower and web, where a 'headrace up' looks after them."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "status.json").write_text('{"processes": {"flower": {"pid": null}}}')
    ports = {"flower_port": free_port(), "http_port": free_port()}
    here = replace(stack.settings, data_dir=tmp_path, redis_url="redis://127.0.0.1:1/0", **ports)
    lock = hold_lock(tmp_path, SUPERVISOR)
    assert lock is not None
    try:
        for name in ("flower", "metrics"):
            (found,) = findings(here, name)
            assert (found.level, "does not answer" in found.found) == (Level.PROBLEM, True)
            assert "headrace logs" in found.remedy
        assert findings(replace(here, flower=False), "flower")[0].level is Level.OK
    finally:
        os.close(lock)


def test_a_log_that_nobody_rotates_is_named(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs" / "web.log").write_text("x" * 2_001)
    here = replace(stack.settings, redis_url="redis://127.0.0.1:1/0", data_dir=tmp_path, log_file_bytes=1_000)
    (found,) = findings(here, "logs")
    assert (found.level, "web.log is longer than HEADRACE_LOG_FILE_BYTES" in found.found) == (Level.WARNING, True)
    assert findings(replace(here, log_file_bytes=1_001), "logs")[0].level is Level.OK


def test_sessions_over_plain_http_are_named(stack: Stack) -> None:
    stack.redis.set(keys.session("digest"), "digest", ex=60)
    try:
        (found,) = findings(stack.settings, "sessions")
        assert (found.level, found.found) == (Level.OK, "1 signed in at the dashboard")
        (open_,) = findings(replace(stack.settings, http_host="0.0.0.0"), "sessions")
        assert (open_.level, "can be read on the way" in open_.found) == (Level.WARNING, True)
    finally:
        stack.redis.delete(keys.session("digest"))


def test_a_replica_that_does_not_answer_is_named(stack: Stack) -> None:
    with stopped(stack.replica().engine_pid):
        said = broken(stack, "replicas")
        assert "fake.n1.cpu0 did not answer within 10 s" in said, said
    eventually(lambda: [finding.level for finding in findings(stack.settings, "replicas")] == [Level.OK], "it is back")


def test_lost_data_are_named(stack: Stack) -> None:
    name = stack.redis.get(keys.INSTALLATION)
    stack.redis.delete(keys.INSTALLATION)
    try:
        assert "lost its data" in broken(stack, "installation")
    finally:
        stack.redis.set(keys.INSTALLATION, name)


def test_a_redis_that_is_away_leaves_the_host_to_look_at(stack: Stack) -> None:
    found = list(examine(replace(stack.settings, redis_url="redis://127.0.0.1:1/0")))
    (bad,) = [finding for finding in found if finding.level is not Level.OK]
    assert "does not answer" in bad.found
    assert {"disk", "packages", "certificates"} <= {finding.check for finding in found}


def test_a_certificate_that_has_expired_is_named(stack: Stack, tmp_path: Path) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(days=9))
    certificate = builder.not_valid_after(now - datetime.timedelta(days=2)).sign(key, hashes.SHA256())
    path = tmp_path / "server.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    settings = replace(stack.settings, tls_cert=str(path))
    (bad,) = findings(settings, "certificates")
    assert bad.level is Level.PROBLEM
    assert "has expired" in bad.found


def test_the_sandbox_says_which_promise_held_and_which_did_not(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def cancel_jobs(sandbox: chaos.Sandbox) -> None:
        job = sandbox.redis.zrange(keys.RUNNING, 0, 0)[0]
        cancel_all(chaos.JobStore(sandbox.redis), str(sandbox.redis.hget(keys.job(job), "key_id")))

    kept = {name: chaos.FAULTS[name] for name in ("engine killed", "Redis killed")}
    monkeypatch.setattr(chaos, "FAULTS", {**kept, "jobs cancelled": cancel_jobs})
    found = {finding.check: finding for finding in chaos.break_sandbox(settings)}
    assert {name: finding.level for name, finding in found.items()} == {
        "engine killed": Level.OK,
        "Redis killed": Level.OK,
        "jobs cancelled": Level.PROBLEM,
        "end": Level.OK,
    }, found
    assert "4 of 4 streams whole" in found["engine killed"].found
    assert "lost or repeated" in found["jobs cancelled"].found
