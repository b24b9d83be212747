"""`make bench`: one run, one table. The raw engine, the whole path, and other servers that are installed.

Contestants take turns within each round, so that a noisy machine is noisy for all; ratios are medians over rounds.
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import socket
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from tests.bench import embeddings, formed, gateway, scheduling, scheduling_page
from tests.bench.grpc_server import grpc_face
from tests.bench.peers import peers
from tests.bench.scale import page as scale_page
from tests.bench.scale.measure import SIZES, measure
from tests.bench.scale.processes import idle_processes
from tests.bench.server import Helper, Server
from tests.bench.workload import MAX_TOKENS, MODEL, prompts
from tests.stack import KEY, Stack

ROOT = Path(__file__).parents[2]
#: One stream has so many times the rounds: it is over soon, and brings a single time to first token.
ALONE_ROUNDS = 4


@contextlib.contextmanager
def headrace(*models: str, step_s: float = 0.0, **settings: Any) -> Iterator[Stack]:
    """The whole path, with a replica of each model. `step_s`: what a step of the fake engine takes."""
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        common = {"queue_limit": 5_000, "log_level": "warning", "lease_s": 5.0, "grace_s": 10.0}
        stack = Stack(Path(folder) / "s", **common, **settings)
        try:
            stack.up({model: {"step_s": step_s} if model == "fake" else {} for model in models})
            yield stack
        finally:
            stack.close()


def contestant(stack: Stack, model: str = MODEL) -> Server:
    """Its chat."""
    replica = stack.replica(model)
    web = psutil.Process(stack.processes["web"].pid).children()[0].pid
    processes = {name: stack.processes[name].pid for name in ("redis", "keeper", "agent")}
    processes |= {"web": web, "model worker": replica.pid, "engine": replica.engine_pid}
    return Server(
        "headrace",
        stack.settings.http_port,
        f"/models/{model}/chat/completions",
        {"Authorization": f"Bearer {KEY}"},
        {"stream_options": {"include_usage": True}},
        processes,
    )


def compare(
    raw: Helper, load: Helper, servers: list[Server], streams: list[int], rounds: int
) -> dict[str, dict[str, Any]]:
    """Rounds in which all take turns; the median of each figure."""
    results: dict[str, dict[str, Any]] = {}
    for count in streams:
        runs: dict[str, list[dict[str, Any]]] = {}
        for turn in range((rounds * ALONE_ROUNDS if count == 1 else rounds) + 1):
            # Prompts of its own for each, since our two faces ask one engine, whose prefix cache would help the second.
            texts = [prompts(count, salt=count * 10 + turn + 1000 * i) for i in range(len(servers) + 1)]
            order: list[tuple[str, Any]] = [("raw engine", lambda texts=texts[0]: raw.ask(texts))]
            order += [(s.name, lambda s=s, texts=texts[i]: s.run(load, texts)) for i, s in enumerate(servers, start=1)]
            for name, run in order if turn % 2 else order[::-1]:
                measured = run()
                if turn:  # the first turn warms up
                    runs.setdefault(name, []).append(measured)
        for name, measured in runs.items():
            entry = {key: statistics.median(m[key] for m in measured) for key in measured[0] if key != "cpu_s"}
            if "cpu_s" in measured[0]:
                total = sum(m["tokens"] for m in measured)
                parts = measured[0]["cpu_s"]
                entry["cpu_ms_per_token"] = {p: 1000 * sum(m["cpu_s"][p] for m in measured) / total for p in parts}
            ratios = [m["tokens_per_s"] / r["tokens_per_s"] for m, r in zip(measured, runs["raw engine"], strict=True)]
            entry["ratio_to_raw"] = statistics.median(ratios)
            results.setdefault(name, {})[str(count)] = entry
            show(name, count, entry)
    return results


def show(name: str, count: int, entry: dict[str, Any]) -> None:
    """One line of the table."""
    line = (
        f"{name:22} {count:3} streams  {entry['tokens_per_s']:7.0f} tok/s  x{entry['ratio_to_raw']:.2f}"
        f"  ttft {entry['ttft_p50_ms']:6.0f}/{entry['ttft_p99_ms']:6.0f} ms"
        f"  gap {entry['gap_p50_ms']:5.1f}/{entry['gap_p99_ms']:6.1f} ms"
    )
    if cpu := entry.get("cpu_ms_per_token"):
        line += "  cpu ms/token " + " ".join(f"{part}={ms:.3f}" for part, ms in cpu.items())
    print(line, flush=True)


def queue_path(stack: Stack, load: Helper) -> dict[str, float]:
    """Jobs a second through the whole path with the fake engine: one token each, 32 at once."""
    server = Server(
        "fake", stack.settings.http_port, "/models/fake/chat/completions", {"Authorization": f"Bearer {KEY}"}, {}, {}
    )
    started, jobs = time.perf_counter(), 0
    while time.perf_counter() - started < 5:
        server.run(load, ["x"] * 32, max_tokens=1)
        jobs += 32
    rate = jobs / (time.perf_counter() - started)
    print(f"queue path: {rate:.0f} jobs/s", flush=True)
    return {"jobs_per_s": rate}


def idle_streams(stack: Stack, count: int = 1000) -> dict[str, float]:
    """Memory of the web process for each idle stream. They wait for a model worker that is asleep."""
    web = psutil.Process(psutil.Process(stack.processes["web"].pid).children()[0].pid)
    worker = psutil.Process(stack.replica("fake").pid)
    before = web.memory_info().rss
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 1})
    head = (
        "POST /models/fake/chat/completions HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    worker.suspend()
    connections = []
    try:
        for _ in range(count):
            connections.append(socket.create_connection(("127.0.0.1", stack.settings.http_port)))
            connections[-1].sendall(head)
        for connection in connections:
            connection.recv(100)
        time.sleep(2)
        used = web.memory_info().rss - before
    finally:
        for connection in connections:
            connection.close()
        worker.resume()
    print(f"idle streams: {used / 2**20:.1f} MiB for {count}", flush=True)
    return {"mib_per_1000": used / 2**20 / count * 1000}


def job_memory(stack: Stack) -> dict[str, float]:
    """What an ended chat of 128 tokens costs in Redis, in bytes."""
    with stack.client() as client:
        body = {"messages": [{"role": "user", "content": "x"}], "max_tokens": MAX_TOKENS}
        job_id = client.post("/models/fake/chat/completions", json=body).json()["data"]["id"]
    parts = [f"hr:{{{job_id}}}", f"hr:{{{job_id}}}:events"]
    used = sum(int(stack.redis.memory_usage(key, samples=0) or 0) for key in parts)
    print(f"a job of {MAX_TOKENS} tokens: {used} bytes in Redis", flush=True)
    return {"bytes": used}


def picture(results: dict[str, dict[str, Any]], path: Path) -> None:
    """Tokens per second by number of streams."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4))
    for name, entries in results.items():
        axes.plot([int(n) for n in entries], [e["tokens_per_s"] for e in entries.values()], marker="o", label=name)
    axes.set(xlabel="concurrent streams", ylabel="tokens/s", title=f"SmolLM2-135M, {os.cpu_count()} CPUs")
    axes.set_xscale("log", base=2)
    axes.set_xticks([1, 4, 16, 32], ["1", "4", "16", "32"])
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(path)


def generation(streams: list[int], rounds: int, *, quick: bool) -> dict[str, Any]:
    """Streams of chat beside the raw engine and other servers; then, unless quick, what the path itself costs."""
    raw, load = Helper("tests.bench.raw"), Helper("tests.bench.load")
    raw.read()
    try:
        with contextlib.ExitStack() as open_servers:
            stack = open_servers.enter_context(headrace(MODEL, "fake"))
            ours = contestant(stack)
            servers = [ours, open_servers.enter_context(grpc_face(stack, ours.processes))]
            servers += [] if quick else open_servers.enter_context(peers())
            results: dict[str, Any] = {"results": compare(raw, load, servers, streams, rounds)}
            if not quick:
                results |= {"queue_path": queue_path(stack, load), "idle_streams": idle_streams(stack)}
                results["job_in_redis"] = job_memory(stack)
            return results
    finally:
        raw.close()
        load.close()


def gateway_alone(rounds: int) -> dict[str, Any]:
    """The gateway without a model, at each of its loads."""
    load, entries = Helper("tests.bench.load"), {}
    try:
        for streams, rate in gateway.LOADS.items():
            with headrace("fake", step_s=1 / rate, max_batch_size=streams) as stack:
                ours = contestant(stack, "fake")
                with grpc_face(stack, ours.processes, "fake") as rpc:
                    faces = (ours, rpc)
                    entries[str(streams)] = {face.name: gateway.cost(face, load, streams, rounds) for face in faces}
    finally:
        load.close()
    return entries


def main() -> None:
    """Measure, print, and write docs/bench.json and docs/bench.svg. What was not measured stays as it was there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", default="1,4,16,32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="only the comparisons, and no files")
    parser.add_argument("--only", choices=["generation", "gateway", "embeddings", "scheduling", "grammars", "scale"])
    parser.add_argument("--scenario", action="append", default=[], choices=scheduling.SCENARIOS, help="of scheduling")
    parser.add_argument("--model", default=MODEL, choices=[MODEL, "fake"], help="of scheduling; no files with fake")
    parser.add_argument("--against", type=Path, help="another checkout, measured beside this one")
    args = parser.parse_args()
    path = ROOT / "docs" / "bench.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    report |= {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
    if args.only in (None, "generation"):
        report |= generation([int(n) for n in args.streams.split(",")], args.rounds, quick=args.quick)
    if args.only in (None, "gateway"):
        report["gateway"] = gateway_alone(args.rounds)
    if args.only in (None, "embeddings"):
        with headrace(embeddings.MODEL) as stack:
            report["embeddings"] = embeddings.compare(stack, args.rounds)
    if args.only in (None, "scheduling"):
        measured = scheduling.measure(args.scenario, model=args.model, against=args.against, quick=args.quick)
        report["scheduling"] = report.get("scheduling", {}) | measured
    if args.only in (None, "grammars"):
        with headrace(MODEL) as stack:
            report["grammars"] = formed.measure(contestant(stack), against=args.against, quick=args.quick)
    if args.only in (None, "scale"):
        measured = {"date": datetime.date.today().isoformat(), "now": measure(SIZES[: 2 if args.quick else 3])}
        report["scale"] = report.get("scale", {}) | measured | {"processes": idle_processes()}
    if args.quick or args.model == "fake":
        return
    scheduling_page.write(report.get("scheduling", {}))
    scale_page.write(report.get("scale", {}))
    path.write_text(json.dumps(report, indent=1) + "\n")
    if "results" in report:
        picture(report["results"], ROOT / "docs" / "bench.svg")


if __name__ == "__main__":
    main()
