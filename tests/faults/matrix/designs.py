"""The systems that rows run on: the plain one, and those that differ from it in what a row needs."""

from __future__ import annotations

from tests.faults.matrix.clocks import clock_of
from tests.faults.matrix.rig import Design
from tests.faults.matrix.store_faults import no_small_disk, small_disk
from tests.stack import free_port

DESIGNS = {
    # A chaos run takes longer than a job is kept.
    "plain": Design(settings={"job_ttl_s": 3600.0}),
    "behind a proxy": Design(proxied=True),
    "with a replica of Redis": Design(
        proxied=True, redis_args=("--port", str(free_port()), "--bind", "127.0.0.1", "--repl-diskless-sync-delay", "0")
    ),
    "small disk": Design(before=small_disk, after=no_small_disk),
    # Prompts that take longer than a job may be silent, and than an engine may rest.
    "long prompts": Design(settings={"stall_s": 5.0, "max_batch_size": 40}, options={"prefill_s": 0.8}),
    "small batch": Design(settings={"stall_s": 3.0, "max_batch_size": 2}),
    "short queue": Design(settings={"queue_limit": 40}),
    **{f"own clock of {name}": Design(wrap=clock_of(name)) for name in ("redis", "keeper", "rpc", "provider")},
}
