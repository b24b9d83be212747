"""Every metric, in one place: names, labels and buckets as Prometheus sees them, and who counts it.

What happens to jobs is counted in Redis, in the scripts that move them (`gateway/store/lua`), so that it is exact
whoever dies. What is at this moment comes from heartbeats, queues and Redis, and goes with them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

#: The buckets that OpenTelemetry's conventions for generative AI advise, in seconds.
DURATION_S = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
FIRST_TOKEN_S = (*(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75), *(1.0, 2.5, 5.0, 7.5, 10.0))
EACH_TOKEN_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
#: Of what takes minutes.
LONG_S = (0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0, 640.0, 1280.0)


@dataclass(frozen=True)
class Metric:
    """One family. With `buckets`, in seconds, it is a histogram. What is counted is counted in units of `1 / scale`."""

    name: str
    help: str
    labels: Sequence[str] = ()
    buckets: Sequence[float] = ()
    scale: int = 1


_OF_MODEL = ("model",)
_GEN_AI = ("gen_ai_request_model", "gen_ai_operation_name")

#: Counted in Redis, by the word under which that is done there: `gateway/store/lua/lib.lua`.
COUNTED = {
    "jobs": Metric(
        "headrace_jobs", "Jobs that have ended, by how: done, failed or cancelled.", ("model", "kind", "end")
    ),
    "failures": Metric("headrace_job_failures", "Jobs that have failed, by reason.", ("model", "reason")),
    "tokens": Metric(
        "headrace_tokens",
        "Tokens of jobs that have ended: of prompts, of those the cached ones, and of answers.",
        ("model", "of"),
    ),
    "first": Metric("gen_ai_server_time_to_first_token_seconds", "Queue included.", _GEN_AI, FIRST_TOKEN_S),
    "each": Metric(
        "gen_ai_server_time_per_output_token_seconds",
        "Of answers that are whole: mean time of each token behind the first.",
        _GEN_AI,
        EACH_TOKEN_S,
    ),
    "duration": Metric(
        "gen_ai_server_request_duration_seconds",
        "From the request to its end, queue included.",
        (*_GEN_AI, "error_type"),
        DURATION_S,
    ),
    "waited": Metric("headrace_queue_wait_seconds", "From the request to its first claim.", _OF_MODEL, DURATION_S),
    "deployments": Metric(
        "headrace_deployment_duration_seconds",
        "From the request for a deployment, or for a model to be added, to its end.",
        ("model", "kind", "end"),
        LONG_S,
    ),
    "stages": Metric(
        "headrace_deployment_stage_duration_seconds",
        "Of deployments that have ended: each stage of each replica that was completed.",
        ("model", "stage"),
        LONG_S,
    ),
    "calls": Metric(
        "headrace_provider_call_duration_seconds",
        "Calls to providers that have ended, by how: done, cancelled, or why they failed.",
        ("provider", "end"),
        DURATION_S,
    ),
    "errors": Metric(
        "headrace_error_replies",
        "Requests that were answered with an error. Of a process that has ended the last seconds are missing.",
        ("face", "status", "reason"),
    ),
    "resumes": Metric(
        "headrace_resumes",
        "Answers that went on under another claim, by why they had stopped.",
        ("model", "cause"),
    ),
    "replayed": Metric(
        "headrace_replayed_tokens", "Tokens of answers that other claims went on behind, instead of anew.", _OF_MODEL
    ),
    "lost": Metric(
        "headrace_lost_tokens",
        "Tokens that were written and are not in the answer that was counted. Anything but 0 breaks the promise.",
        _OF_MODEL,
    ),
    "refused": Metric(
        "headrace_zombie_writes_refused",
        "Writes of workers whose claim had been taken from them. They changed nothing.",
    ),
    "preemptions": Metric(
        "headrace_preemptions", "Jobs that gave their slots to others, and waited to go on.", _OF_MODEL
    ),
    "left": Metric(
        "headrace_abandoned_slot_seconds",
        "Seconds of slots that were spent for clients that had left.",
        _OF_MODEL,
        scale=1000,
    ),
    "cost": Metric(
        "headrace_cost",
        "What the tokens of jobs that have ended cost, by their prices.",
        ("model", "currency"),
        scale=10**12,
    ),
}
#: The same for each API key, in a hash of its own; only shown if `HEADRACE_METRICS_KEYS` is set.
OF_KEYS = Metric("headrace_key_jobs", "Jobs of an API key that have ended, by how.", ("key_id", "end"))

_REPLICA = ("model", "node", "device", "replica")
_QUEUE = ("model", "class")
#: What is at the moment of the look.
GAUGES = {
    metric.name: metric
    for metric in (
        Metric("headrace_info", "1; the version that answers.", ("version",)),
        Metric("headrace_running_jobs", "Jobs that have begun and have not ended."),
        Metric("headrace_queue_jobs", "Jobs that wait for a model, by class: interactive or background.", _QUEUE),
        Metric("headrace_queue_oldest_seconds", "How long the one that was made first waits.", _QUEUE),
        Metric("headrace_queue_eta_seconds", "When a request that comes now would begin, if that is known.", _QUEUE),
        Metric("headrace_replica_healthy", "1 if it serves; 0 while it loads or drains, stalls or fails.", _REPLICA),
        Metric("headrace_replica_slots", "Sequences that fit its batch.", _REPLICA),
        Metric("headrace_replica_sequences", "Sequences in its batch.", _REPLICA),
        Metric("headrace_replica_kv_tokens", "Tokens that fit its KV cache, if it has one and says so.", _REPLICA),
        Metric("headrace_replica_kv_used_tokens", "Tokens that its sequences take of the KV cache.", _REPLICA),
        Metric("headrace_replica_tokens_per_second", "Tokens that it has made lately.", _REPLICA),
        Metric("headrace_replica_memory_bytes", "Resident memory of its processes.", _REPLICA),
        Metric("headrace_replica_planned_bytes", "Memory that was planned for it.", _REPLICA),
        Metric("headrace_replica_steps", "Steps that its engine has made since it was loaded.", _REPLICA),
        Metric("headrace_replica_step_seconds", "How long all of these steps took.", _REPLICA),
        Metric("headrace_device_memory_bytes", "Memory of a device.", ("node", "device")),
        Metric("headrace_device_free_bytes", "Memory that is free there.", ("node", "device")),
        Metric("headrace_provider_calls_running", "Calls to providers that a worker makes now.", ("node",)),
        Metric("headrace_provider_circuit", "1 for the state that a provider's circuit is in.", ("provider", "state")),
        Metric("headrace_redis_up", "1 if Redis answers; if it does not, this is all there is."),
        Metric("headrace_redis_memory_bytes", "Memory that Redis takes."),
        Metric("headrace_redis_memory_limit_bytes", "What it may take; 0: no limit."),
        Metric("headrace_redis_clients", "Connections to Redis."),
        Metric("headrace_redis_round_trip_seconds", "One question and its answer, measured for this look."),
        Metric("headrace_keeper_up", "1 if a keeper holds its lease."),
        Metric("headrace_keeper_trusted", "1 if it recovers lost jobs; not at once after an outage of Redis."),
        Metric("headrace_keeper_round_seconds", "Duration of its last round."),
    )
}

#: The separator of the parts of a counter's field in Redis: its word, its labels, and of a histogram the bucket.
SEPARATOR = "\x1f"
#: The part that adds up what was measured, in microseconds, in the place of a bucket.
SUM = "sum"
#: More fields are not made: what has no field then counts for an empty first label.
MOST_FIELDS = 50_000


def as_lua() -> str:
    """What the scripts know of this: the buckets in ms by word, in order."""
    bounds = {word: metric.buckets for word, metric in COUNTED.items() if metric.buckets}
    tables = ", ".join(
        f"{word} = {{{', '.join(f'{1000 * bound:g}' for bound in found)}}}" for word, found in bounds.items()
    )
    return f"local BUCKETS, MOST_METRICS = {{{tables}}}, {MOST_FIELDS}"
