"""Every Redis key and channel that Headrace uses. All keys of one job share its `{...}` hash tag."""

from __future__ import annotations

#: Jobs that run now: member job id, score the claim's time in ms. A superset, see PROTOCOL.
RUNNING = "hr:running"
#: Models that have, or had, a queue index.
QUEUES = "hr:queues"
#: Incarnations of workers that have, or had, a heartbeat.
WORKERS = "hr:workers"
#: Incarnations of provider workers that have, or had, a heartbeat.
PROVIDERS = "hr:providers"
#: Incarnations of agents that have, or had, a heartbeat.
DEVICES = "hr:devices"
#: Set: devices that have, or had, a desired state; member `{node} {device}`.
DESIRED_DEVICES = "hr:places"
#: Names of nodes that were ever here.
NODES = "hr:nodes"
#: String with a TTL: the keeper has completed the sets by model lately, see `gateway/cluster/by_model.py`.
BY_MODEL = "hr:by-model"
#: Deployments, newest last: member job id, score the time of creation in ms.
DEPLOYMENTS = "hr:deployments"
#: API keys: member key id.
API_KEYS = "hr:keys"
#: The bootstrap keys (hash): where one comes from, its id.
BOOTSTRAP_KEYS = "hr:bootstrap_keys"
#: API keys that have, or had, a window of charges: member key id.
LIMITED = "hr:limited"
#: Hash: tokens with which machines join; id to the SHA-256 of its secret.
JOIN_TOKENS = "hr:join-tokens"
#: Hash: machines that may reach Redis through the listener; digest of a key to the node's name.
ADMITTED = "hr:admitted"
#: String: the id of the installation, see `gateway/store/installation.py`.
INSTALLATION = "hr:installation"
#: Hash: all that is counted of jobs, see `gateway/store/metrics.py` and `lua/lib.lua`.
METRICS = "hr:metrics"
#: Hash: jobs of each API key that have ended, by how.
KEY_METRICS = "hr:metrics:keys"
#: List with a TTL: jobs that have ended, and whose traces are to be exported; see `gateway/tracing/job_traces.py`.
TRACES = "hr:traces"
#: List: the points of the last hour, newest first, see `gateway/metrics/history.py`.
HISTORY = "hr:history"
#: String with a TTL: somebody has added a point of it lately.
HISTORY_TURN = "hr:history:turn"
#: Stream: the audit log, see `gateway/access/audit.py`.
AUDIT = "hr:audit"
#: The keeper's heartbeat.
KEEPER = "hr:keeper"

#: Hash: models that were added by the API, by id; see `gateway/models/catalog_store.py`.
CATALOG = "hr:catalog"
#: String: what a machine's headrace.toml says of models and providers.
CATALOG_FILE = "hr:catalog:file"
#: Set: downloads that machines may remove, since their models were.
DISCARDED = "hr:catalog:discarded"
#: Counter: raised by each change of these.
CATALOG_VERSION = "hr:catalog:version"


def job(job_id: str) -> str:
    """Hash: the job record, which is the truth."""
    return f"hr:{{{job_id}}}"


def damaged(job_id: str) -> str:
    """A job's record that could not be read, as it was: usually a hash."""
    return f"hr:{{{job_id}}}:damaged"


def events(job_id: str) -> str:
    """Stream: the journal; the id of an entry is `{seq}-0`."""
    return f"hr:{{{job_id}}}:events"


def vectors(job_id: str) -> str:
    """String: the vectors of an embedding job, float32 behind float32, in the order of its inputs."""
    return f"hr:{{{job_id}}}:vectors"


def timeline(job_id: str) -> str:
    """List: what has happened to a job, and when, see `gateway/views/timeline.py`."""
    return f"hr:{{{job_id}}}:timeline"


def of_job(job_id: str) -> tuple[str, str, str]:
    """All keys of one job, in the order in which the scripts get them."""
    return job(job_id), events(job_id), vectors(job_id)


def queued(model: str) -> str:
    """Sorted set: jobs that wait for a model, in the order in which they are served."""
    return f"hr:queued:{model}"


def lines(model: str) -> str:
    """What the keys of a model's lines begin with, see `lua/lib_lines.lua`: who waits for it, and who is next."""
    return f"hr:lines:{model}"


def openings(model: str) -> str:
    """Sorted set: the queues of replicas that would take a job of a model now, by their free slots."""
    return f"{lines(model)}:openings"


def ended(model: str) -> str:
    """Sorted set: when jobs of a model ended lately (ms), for the drain rate."""
    return f"hr:ended:{model}"


def stats(model: str, bucket: int) -> str:
    """Hash: answers, failures and the sum of latencies of a model in one bucket of time."""
    return f"hr:stats:{model}:{bucket}"


def owned(key_id: str) -> str:
    """Sorted set: the jobs of one API key, newest last."""
    return f"hr:owned:{key_id}"


def workers_of(model: str) -> str:
    """Set: incarnations of replicas of a model that have, or had, a heartbeat."""
    return f"{WORKERS}:{model}"


def worker(incarnation: str) -> str:
    """String with a TTL: heartbeat and figures of one worker incarnation."""
    return f"hr:worker:{incarnation}"


def held(owner: str) -> str:
    """Set with a TTL: jobs that a worker incarnation has claimed, and perhaps runs; see `lua/held.lua`."""
    return f"hr:held:{owner}"


def breaker(provider: str) -> tuple[str, str]:
    """Hash: the circuit breaker of a provider; sorted set: its failures within the window (ms)."""
    return f"hr:breaker:{{{provider}}}", f"hr:breaker:{{{provider}}}:failures"


def desired(node: str, device: str) -> str:
    """Hash: replica id to its spec, for one device."""
    return f"hr:desired:{node}.{device}"


def desired_of(model: str) -> str:
    """Set: specs of a model that are, or were, desired; member `{node} {device} {replica id}`."""
    return f"{DESIRED_DEVICES}:{model}"


def node(name: str) -> str:
    """Hash: a node, see `gateway/cluster/nodes.py`: `first_seen`, `hold`, `device:{device}`, `label:{key}`."""
    return f"hr:node:{name}"


def to_rest(replica_id: str) -> str:
    """String with a TTL: the memory of a replica is needed; it is to end if nobody has used it for so many seconds."""
    return f"hr:rest:{replica_id}"


def startup_log(replica_id: str) -> str:
    """Stream: the startup of a replica, see `gateway/cluster/startup.py`."""
    return f"hr:bringup:{replica_id}"


def deploying(model: str) -> str:
    """String: the deployment that is changing a model."""
    return f"hr:deploying:{model}"


def durations(model: str) -> str:
    """Hash: the durations of each stage of a model's deployments, in seconds, recent ones first."""
    return f"hr:durations:{model}"


def footprints(node: str, device: str) -> str:
    """Hash with a TTL: model id to its footprint, as the agent of a device found it."""
    return f"hr:footprints:{node}.{device}"


def hub(hub_id: str) -> str:
    """Channel: events for one process that has watchers."""
    return f"hr:hub:{hub_id}"


def api_key(digest: str) -> str:
    """Hash: one API key, by the SHA-256 of its secret."""
    return f"hr:key:{digest}"


def session(digest: str) -> str:
    """String with a TTL: a session of the dashboard, by the SHA-256 of its token: the digest of its key's secret."""
    return f"hr:session:{digest}"


def sessions(key_id: str) -> str:
    """Sorted set with a TTL: the sessions of one API key, by when they end (seconds)."""
    return f"hr:sessions:{key_id}"


def join_token(digest: str) -> str:
    """Hash: one join token, by the SHA-256 of its secret: times, uses, and `node:{name}` of who has used it."""
    return f"hr:join-token:{digest}"


def limits(key_id: str) -> list[str]:
    """The charges of one API key in the last minute (sorted set, hash), and its jobs that are not settled (set)."""
    return [f"hr:limit:{{{key_id}}}", f"hr:limit:{{{key_id}}}:charges", open_jobs(key_id)]


def open_jobs(key_id: str) -> str:
    """Set: jobs of one API key that the ledger has not counted yet."""
    return f"hr:open:{{{key_id}}}"


def stored(key_id: str) -> str:
    """Hash: bytes of the request of each job of one API key; their sum is the field with the empty name."""
    return f"hr:stored:{{{key_id}}}"


def usage(key_id: str, day: str) -> str:
    """Hash: the ledger of one API key and day; `{hour} {count} {currency} {model}` to a whole number."""
    return f"hr:usage:{{{key_id}}}:{day}"
