"""`make bench`: one run, one table. The raw engine, the whole path, and other servers that are installed."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import platform
import socket
import time
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from tests.bench import embeddings, engines_page, formed, gateway, on_vllm, scheduling, scheduling_page
from tests.bench.contest import compare
from tests.bench.grpc_server import grpc_face
from tests.bench.headrace import contestant, headrace
from tests.bench.peers import peers
from tests.bench.scale import page as scale_page
from tests.bench.scale.measure import SIZES, measure
from tests.bench.scale.processes import idle_processes
from tests.bench.server import Helper, Server
from tests.bench.workload import MAX_TOKENS, MODEL
from tests.stack import KEY, Stack, stopped

ROOT = Path(__file__).parents[2]
RAW = "raw engine"


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
    before = web.memory_info().rss
    body = json.dumps({"messages": [{"role": "user", "content": "x"}], "stream": True, "max_tokens": 1})
    head = (
        "POST /models/fake/chat/completions HTTP/1.1\r\nHost: x\r\n"
        f"Authorization: Bearer {KEY}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()
    with stopped(stack.replica("fake").pid), contextlib.ExitStack() as connections:
        streams = []
        for _ in range(count):
            stream = socket.create_connection(("127.0.0.1", stack.settings.http_port))
            streams.append(connections.enter_context(stream))
            stream.sendall(head)
        for stream in streams:
            stream.recv(100)
        time.sleep(2)
        used = web.memory_info().rss - before
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
    with contextlib.ExitStack() as opened:
        stack = opened.enter_context(headrace(MODEL, "fake"))
        raw, load = Helper("tests.bench.raw", MODEL, str(stack.settings.config)), Helper("tests.bench.load")
        opened.callback(raw.close)
        opened.callback(load.close)
        raw.read()
        ours = contestant(stack)
        servers = [ours, opened.enter_context(grpc_face(stack, ours.processes))]
        servers += [] if quick else opened.enter_context(peers())
        contestants = {RAW: raw.ask} | {server.name: partial(server.run, load) for server in servers}
        results: dict[str, Any] = {"results": compare(contestants, streams, rounds, against=[RAW])}
        if not quick:
            results |= {"queue_path": queue_path(stack, load), "idle_streams": idle_streams(stack)}
            results["job_in_redis"] = job_memory(stack)
        return results


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
    parser.add_argument(
        "--only", choices=["generation", "vllm", "gateway", "embeddings", "scheduling", "grammars", "scale"]
    )
    parser.add_argument("--scenario", action="append", default=[], choices=scheduling.SCENARIOS, help="of scheduling")
    parser.add_argument("--model", default=MODEL, choices=[MODEL, "fake"], help="of scheduling; no files with fake")
    parser.add_argument("--against", type=Path, help="another checkout, measured beside this one")
    args = parser.parse_args()
    path = ROOT / "docs" / "bench.json"
    report = json.loads(path.read_text()) if path.exists() else {}
    report |= {"machine": platform.processor() or platform.machine(), "cpus": os.cpu_count()}
    if args.only in (None, "generation"):
        report |= generation([int(n) for n in args.streams.split(",")], args.rounds, quick=args.quick)
    if args.only == "vllm" or (args.only is None and on_vllm.is_installed()):
        report["vllm"] = on_vllm.measure([int(n) for n in args.streams.split(",")], args.rounds)
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
    engines_page.write(report.get("vllm", {}))
    scheduling_page.write(report.get("scheduling", {}))
    scale_page.write(report.get("scale", {}))
    path.write_text(json.dumps(report, indent=1) + "\n")
    if "results" in report:
        picture(report["results"], ROOT / "docs" / "bench.svg")


if __name__ == "__main__":
    main()
