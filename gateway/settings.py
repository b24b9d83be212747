"""All settings of Headrace: typed, frozen, read once and passed in.

Each field `x_y` is set by the variable `HEADRACE_X_Y`, or by `x_y` at the top level of `headrace.toml`
(`gateway/directories.py` says where it lies, or `HEADRACE_CONFIG`); a variable wins over the file. `HEADRACE_X_Y_FILE`
names a file that holds the value, as containers are given secrets; the variable itself wins over it. A machine that has
joined a gateway has settings from there (`gateway/joined.py`), over which all those win.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway import directories
from gateway.errors import InvalidSetting
from gateway.joined import joined_path, read_joined

#: Tables of `headrace.toml` that are not settings; `gateway/models/catalog_file.py` reads them.
TABLES = {"models", "providers"}


#: One or more segments, none of which is `.` or `..`.
_ROOT_PATH = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")
#: The allowed words of a setting.
_WORDS = {
    "appendfsync": ("everysec", "always"),
    "http_tls": ("off", "on", "proxy"),
    "log_format": ("auto", "text", "json"),
    "log_level": ("info", "debug", "warning", "error"),
    "openai_unknown_fields": ("ignore", "refuse"),
    "metrics": ("key", "anyone", "off"),
}
#: Names that become part of keys, queues and paths.
_NAMES = {"node": re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")}
_BOOLEANS = {"true": True, "1": True, "yes": True, "on": True, "false": False, "0": False, "no": False, "off": False}


def _node_name() -> str:
    return socket.gethostname().split(".")[0] or "local"


@dataclass(frozen=True)
class Settings:
    """Every setting with its default. Times are seconds, sizes bytes."""

    #: The file that holds settings, models and providers.
    config: Path = field(default_factory=directories.default_config)
    #: Models as a JSON object by id, over those of the file.
    models_json: str = ""
    #: Providers, likewise.
    providers_json: str = ""
    #: Redis that holds jobs, journals and the registry; empty: the embedded server in `data_dir`.
    redis_url: str = ""
    #: Connections to Redis, and threads for calls, that were idle for this long are given back. 0: never.
    idle_s: float = 60.0
    #: When the embedded Redis syncs to disk: `everysec` (a power cut may lose the last second), or `always`.
    appendfsync: str = "everysec"
    #: Where the embedded Redis, keys, certificates and logs live.
    data_dir: Path = field(default_factory=directories.default_data_dir)
    #: Address on which the REST face listens; `0.0.0.0`: all.
    http_host: str = "127.0.0.1"
    #: Port of the REST face.
    http_port: int = 8000
    #: TLS of the REST face: `on`, `off`, or `proxy`: a proxy in front ends it, so nobody needs to be warned.
    http_tls: str = "off"
    #: Path below which a proxy shows the REST face to its clients, such as `/llm`; all links in answers begin with it.
    root_path: str = ""
    #: Address on which the gRPC face listens; `0.0.0.0`: all.
    grpc_host: str = "127.0.0.1"
    #: Port of the gRPC face.
    grpc_port: int = 50051
    #: Serve gRPC without TLS; allowed on loopback only.
    grpc_plaintext: bool = False
    #: Id of the API key for gRPC calls without a token; empty: they are refused.
    grpc_default_key: str = ""
    #: Serve gRPC reflection, for clients such as grpcurl.
    grpc_reflection: bool = True
    #: gRPC calls that may be open at once, streams included.
    grpc_max_calls: int = 1000
    #: The same for one API key, so that no key can use up all calls. 0: no limit.
    grpc_key_max_calls: int = 500
    #: A gRPC connection that is silent for this long is probed; without an answer within 10 s it is closed.
    grpc_keepalive_s: float = 30.0
    #: PEM file of the certificate of both faces; empty: a development one is made in `{data_dir}/tls`.
    tls_cert: str = ""
    #: PEM file of its key.
    tls_key: str = ""
    #: PEM file of a CA: gRPC clients must have a certificate that it signed. Empty: they need none.
    tls_client_ca: str = ""
    #: PEM file of a CA that the command line trusts, beside public ones and the development CA.
    ca_file: str = ""
    #: Where other machines join and reach this Redis, over TLS, as HOST:PORT; empty: nowhere.
    listen: str = ""
    #: `headrace up` starts Flower.
    flower: bool = True
    #: Address on which Flower listens.
    flower_host: str = "127.0.0.1"
    #: Port of Flower.
    flower_port: int = 5555
    #: Jobs that Flower remembers, the newest.
    flower_max_tasks: int = 10_000
    #: How long somebody stays signed in at the dashboard.
    session_ttl_s: float = 43_200.0
    #: Origins whose pages may call the REST face from a browser, separated by spaces or commas; `*`: all, empty: none.
    cors_origins: str = "*"
    #: What happens to fields of a request below /v1 that neither OpenAI nor Headrace knows: `ignore` or `refuse`.
    openai_unknown_fields: str = "ignore"
    #: gunicorn worker processes of the web face.
    web_workers: int = 1
    #: Name of this machine in queue names and `target_nodes`.
    node: str = field(default_factory=_node_name)
    #: Labels of this machine, such as `gpu=a100,zone=b`, which `target_nodes` may name.
    labels: str = ""
    #: Device that the agent on this machine serves.
    device: str = "cpu0"
    #: Models that this device serves from its agent's start, without a deployment, separated by spaces or commas.
    resident_models: str = ""
    #: The first admin key; empty: one is made and kept in `data_dir`.
    bootstrap_key: str = ""
    #: Model that `headrace up` deploys; empty: none.
    demo_model: str = "smollm2-135m"
    #: How long an ended interactive job stays readable.
    job_ttl_s: float = 600.0
    #: How long an ended background job stays readable.
    background_ttl_s: float = 86_400.0
    #: After the last watcher left, an interactive job is cancelled this much later.
    grace_s: float = 10.0
    #: A worker whose heartbeat is older than this is declared dead.
    lease_s: float = 5.0
    #: Least interval between two writes of a running stream's tokens; the first and the last are written at once.
    stream_interval_s: float = 0.03
    #: The same for a worker with 32 streams or more; with fewer it is shorter, in proportion.
    stream_interval_max_s: float = 0.15
    #: A running job without progress for this long is taken from its worker.
    stall_s: float = 60.0
    #: An engine that has work but makes no step for this long is killed.
    engine_stall_s: float = 30.0
    #: Engine crashes while a job runs before it fails with `engine_crashed`.
    max_attempts: int = 3
    #: Interactive jobs that may wait for a model before one more, as they are served, before submit answers 429.
    queue_limit: int = 256
    #: The same for background jobs.
    background_queue_limit: int = 100_000
    #: Jobs of one API key that have not ended; 0: no limit.
    key_max_jobs: int = 100_000
    #: Bytes of the requests of one API key whose jobs can still be read; 0: no limit.
    key_max_bytes: int = 256 * 1024 * 1024
    #: Requests of one API key that one web process has open at once, streams included; 0: no limit.
    key_max_streams: int = 2000
    #: Memory of the embedded Redis; new jobs are refused above four fifths of it. 0: a quarter of the machine's, or of
    #: its container's, and 8 GiB at most.
    redis_memory_bytes: int = 0
    #: A job that no worker took for this long fails with `queue_timeout`.
    queue_timeout_s: float = 600.0
    #: What background jobs get of a model's tokens, however many others wait; and all that is left. 0 to 1.
    background_share: float = 0.1
    #: Background jobs give back their slots when a client waits for an answer, and go on later from where they were.
    preemption: bool = True
    #: A job that did so often enough keeps its slots.
    max_preemptions: int = 16
    #: Largest accepted request body.
    max_body_bytes: int = 4 * 1024 * 1024
    #: Objects, lists and fields of objects that one request may hold.
    max_body_values: int = 50_000
    #: Sequences that one replica runs at once if its deployment does not set it.
    max_batch_size: int = 32
    #: How long the running requests of an unloaded replica may take; then they continue elsewhere, or wait.
    drain_s: float = 120.0
    #: How long the running requests of a model worker or a provider worker may take after SIGTERM; likewise.
    shutdown_s: float = 3.0
    #: Longest time to load a model.
    load_timeout_s: float = 1800.0
    #: A deployment fails if the agent of its device is gone for this long.
    node_gone_s: float = 30.0
    #: A request loads its model, if the weights are there and no replica serves it. `headrace up` does so unless it is
    #: set.
    load_on_demand: bool = False
    #: Models that were loaded so are unloaded after this time without a request; 0: never, until others need the room.
    load_on_demand_idle_s: float = 300.0
    #: Memory of one device that such models take together: bytes, or a share of it up to 1; 0: all that it has. The
    #: longest idle ones make room.
    load_on_demand_memory: float = 0.0
    #: Missing weights are downloaded for a request, too.
    load_on_demand_fetch: bool = False
    #: Requests to remote models that one provider worker runs at once.
    provider_concurrency: int = 64
    #: A provider's circuit breaker opens after this many failures within the window.
    breaker_failures: int = 5
    #: That window.
    breaker_window_s: float = 30.0
    #: An open one tries a call again after this time.
    breaker_open_s: float = 15.0
    #: Longest time a stream stays open before it asks the client to reconnect; 0: there is none. Not below /v1.
    stream_limit_s: float = 3600.0
    #: Who may read `GET /metrics`: who has a `key` of the scope `metrics`, `anyone`, or nobody (`off`).
    metrics: str = "key"
    #: Metrics of jobs by API key, too, which may be many.
    metrics_keys: bool = False
    #: Export traces with OpenTelemetry, as its own variables (`OTEL_...`) say; needs the extra `otel`.
    otel: bool = False
    #: Least level of what is logged: `debug`, `info`, `warning` or `error`.
    log_level: str = "info"
    #: How log lines look: `json`, `text`, or `auto`: text on a terminal, JSON elsewhere.
    log_format: str = "auto"
    #: Model workers log to files in `data_dir`; else to where their agent does.
    log_files: bool = True
    #: A log file in `data_dir` that is longer is rotated; 0: none is.
    log_file_bytes: int = 32 * 1024 * 1024
    #: Older parts of each log that are kept.
    log_files_kept: int = 3

    @property
    def effective_redis_url(self) -> str:
        """The Redis to connect to: the configured one, else the embedded server's socket."""
        return self.redis_url or f"unix://{(self.data_dir / 'redis.sock').absolute()}"

    @property
    def tls_dir(self) -> Path:
        """Where the development certificates lie."""
        return self.data_dir / "tls"

    @classmethod
    def load(cls, environ: Mapping[str, str] | None = None, **defaults: Any) -> Settings:
        """Read variables and `headrace.toml`. `defaults` stand for those of the fields.

        Raises:
            InvalidSetting: a value does not parse; the text names variable, value and what is allowed.
        """
        env = os.environ if environ is None else environ
        path = Path(env["HEADRACE_CONFIG"]) if "HEADRACE_CONFIG" in env else directories.default_config()
        specs = {spec.name: spec for spec in dataclasses.fields(cls)}
        variables = {name: f"HEADRACE_{name.upper()}" for name in specs}
        # A process that has all variables from its parent does not read the file, which may be broken by now.
        complete = all(variable in env for variable in variables.values())
        table = {} if complete else _read_toml(path)
        values: dict[str, Any] = {}
        data_dir = Path(env.get("HEADRACE_DATA_DIR") or table.get("data_dir") or directories.default_data_dir())
        joined = {} if complete else read_joined(data_dir).get("settings", {})
        for name in table.keys() - specs.keys() - TABLES:
            raise InvalidSetting(f"{path}: there is no setting {name!r}. Known settings: {', '.join(sorted(specs))}.")
        for name, spec in specs.items():
            if variables[name] in env:
                values[name] = _parse(variables[name], str(spec.type), env[variables[name]])
            elif secret := env.get(f"{variables[name]}_FILE"):
                values[name] = _parse(variables[name], str(spec.type), _read_value(f"{variables[name]}_FILE", secret))
            elif name in table:
                values[name] = _parse(f"{path}: {name}", str(spec.type), table[name])
            elif name in joined:
                values[name] = _parse(f"{joined_path(data_dir)}: {name}", str(spec.type), joined[name])
        for name in _WORDS.keys() & values.keys():
            values[name], allowed = values[name].lower(), _WORDS[name]
            if values[name] not in allowed:
                raise InvalidSetting(f"{variables[name]} is {values[name]!r}; it must be {' or '.join(allowed)}.")
        values["root_path"] = _root_path(values.get("root_path", ""))
        for name, pattern in _NAMES.items():
            if name in values and not pattern.fullmatch(values[name]):
                raise InvalidSetting(
                    f"{variables[name]} is {values[name]!r:.100}; it must be 1 to 63 letters, digits, '.', '_' and '-'."
                )
        return cls(**{**defaults, **values})

    def environ(self) -> dict[str, str]:
        """These settings as variables, for child processes."""
        return {f"HEADRACE_{f.name.upper()}": str(getattr(self, f.name)) for f in dataclasses.fields(self)}


def _read_value(variable: str, path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{variable} is {path!r}, which can't be read: {error}.") from error


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidSetting(f"{path} can't be read: {error}.") from error
    except tomllib.TOMLDecodeError as error:
        raise InvalidSetting(f"{path} is not valid TOML: {error}. Correct that line, or remove the file.") from error


def _root_path(text: str) -> str:
    """With a slash at its begin and none at its end; empty for the root itself. Raises: InvalidSetting."""
    inner = text.removeprefix("/").removesuffix("/")
    path = f"/{inner}" if inner else ""
    if path and not _ROOT_PATH.fullmatch(path):
        raise InvalidSetting(f"HEADRACE_ROOT_PATH is {text!r}; it must be a path such as /llm, without a host.")
    return path


def _parse(name: str, kind: str, raw: Any) -> Any:
    text = str(raw).strip()
    if kind == "str":
        return text
    if kind == "Path":
        return Path(text)
    if kind == "bool":
        if text.lower() not in _BOOLEANS:
            raise InvalidSetting(f"{name} is {text!r}; it must be true or false.")
        return _BOOLEANS[text.lower()]
    try:
        number = int(text) if kind == "int" else float(text)
    except ValueError as error:
        wanted = "a whole number" if kind == "int" else "a number"
        raise InvalidSetting(f"{name} is {text!r}; it must be {wanted}.") from error
    if not 0 <= number < float("inf"):
        raise InvalidSetting(f"{name} is {text!r}; it must be zero or more.")
    return number
