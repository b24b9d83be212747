"""Checks of what people and programs look at: metrics, Flower, logs, the dashboard's sessions."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable

import httpx
import psutil

from cli import probe
from cli.api.connection import connect, http_url
from cli.api.progress import size_text
from cli.client import message_of
from cli.doctor.checks import Check, Finding, Installed, ok, problem, warning
from cli.up import supervisor_of
from gateway.access.plaintext import is_loopback
from gateway.access.secret_files import bootstrap_key
from gateway.process.log_files import log_folder
from gateway.store import keys

#: A log that is so many times longer than it may be is not rotated.
TOO_LONG = 2
#: Logs that are never rotated should not take more than this.
UNBOUNDED_BYTES = 2**30


def metrics(installed: Installed) -> Iterable[Finding]:
    """Whether Prometheus can read them, and who else."""
    settings = installed.settings
    if settings.metrics == "off":
        yield ok("off (HEADRACE_METRICS)")
        return
    if settings.metrics == "anyone" and not is_loopback(settings.http_host):
        yield warning(f"anybody who reaches {settings.http_host} may read them", "Set HEADRACE_METRICS=key.")
    try:
        with connect(settings, None, None) as client:
            client.event_hooks = {}
            response = client.get("/metrics")
    except httpx.TransportError as error:
        if supervisor_of(settings.data_dir):
            yield problem(f"{http_url(settings)}/metrics does not answer: {error}", "See 'headrace logs web'.")
        else:
            yield ok("not looked at: no 'headrace up' runs in this folder")
        return
    if response.is_success:
        yield ok(f"{sum(not line.startswith('#') for line in response.text.splitlines())} values at /metrics")
    elif response.status_code in (401, 403) and not bootstrap_key(settings):
        yield ok("at /metrics, for keys with the scope metrics; this machine has none to look with")
    else:
        remedy = "Prometheus needs a key: 'headrace key create prometheus --scope metrics'; see docs/metrics.md."
        yield problem(f"/metrics refuses the bootstrap key: {message_of(response)}", remedy)


def flower(installed: Installed) -> Iterable[Finding]:
    """Whether it answers, and what it costs."""
    settings = installed.settings
    table = settings.data_dir / "run" / "status.json"
    if not settings.flower:
        yield ok("off (HEADRACE_FLOWER)")
    elif not supervisor_of(settings.data_dir) or not table.exists():
        yield ok("not looked at: no 'headrace up' runs in this folder")
    elif why := probe.flower(settings):
        yield problem(why, "See 'headrace logs flower'; HEADRACE_FLOWER=off leaves it off.")
    else:
        pid = json.loads(table.read_text())["processes"].get("flower", {}).get("pid")
        yield ok(f"answers{_cost(pid)}")


def _cost(pid: int | None) -> str:
    try:
        process = psutil.Process(pid)
        with process.oneshot():
            used, age_s = process.cpu_times(), max(1.0, time.time() - process.create_time())
            share, memory = (used.user + used.system) / age_s, process.memory_info().rss
    except psutil.Error:
        return ""
    return f", and takes {size_text(memory)} and {share:.1%} of a core since it began"


def logs(installed: Installed) -> Iterable[Finding]:
    """Whether they stay as small as they should."""
    settings, folder = installed.settings, log_folder(installed.settings)
    sizes = {path.name: path.stat().st_size for path in folder.glob("*") if path.is_file()} if folder.exists() else {}
    total, most = sum(sizes.values()), settings.log_file_bytes
    found = f"{len(sizes)} files of {size_text(total)} in {folder}"
    long = [name for name, size in sizes.items() if most and size > TOO_LONG * most]
    if long:
        remedy = "Nothing rotates them: 'headrace up' and agents do, while they run. See 'headrace logs agent'."
        yield warning(f"{', '.join(sorted(long)[:3])} is longer than HEADRACE_LOG_FILE_BYTES; {found}", remedy)
    elif not most and total > UNBOUNDED_BYTES:
        yield warning(f"{found}, and none is rotated", "Set HEADRACE_LOG_FILE_BYTES, or let logrotate do it.")
    else:
        yield ok(found)


def sessions(installed: Installed) -> Iterable[Finding]:
    """Who has signed in at the dashboard, and whether others could read along."""
    settings = installed.settings
    count = sum(1 for _ in installed.redis.scan_iter(keys.session("*"), count=1_000))
    found = f"{count} signed in at the dashboard"
    if count and settings.http_tls == "off" and not is_loopback(settings.http_host):
        remedy = "Use TLS: HEADRACE_HTTP_TLS=on, or proxy behind one that has it; see docs/security.md."
        yield warning(f"{found}, over plain HTTP: keys and sessions can be read on the way", remedy)
    else:
        yield ok(found)


#: Those that need no Redis, and those that do.
HERE: tuple[Check, ...] = (metrics, flower, logs)
CHECKS: tuple[Check, ...] = (sessions,)
