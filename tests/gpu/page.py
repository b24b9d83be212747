"""docs/gpu.md, made of what `make gpu` has measured: `python -m tests.gpu.page FILE` prints it for a gpu.json.

With `--write`, and of a CUDA device, it becomes docs/gpu.json and the part of docs/gpu.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.gpu.models import SHAPES
from tests.made_parts import put

DOCS = Path(__file__).parents[2] / "docs"
#: Processes of the whole path that are no part of the gateway.
OTHERS = ("engine", "load generator")


def made(results: Mapping[str, Any]) -> str:
    """In Markdown."""
    return (
        "\n".join([*_device(results.get("device", {})), "", *_contract(results.get("contract", {})), *_models(results)])
        + "\n"
    )


def _device(found: Mapping[str, Any]) -> Iterator[str]:
    if "name" not in found:
        yield f"The device was not read{_unless_whole(found)}."
        return
    said = f", {found['bandwidth'] / 1e12:.2f} TB/s by its maker" if found["bandwidth"] else ""
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    yield (
        f"{found['name']}{said}, {found['copy_bandwidth'] / 1e12:.2f} TB/s by a copy on it; Python {found['python']}, "
        f"{versions}."
    )


def _contract(found: Mapping[str, Any]) -> Iterator[str]:
    counts = [f"{found[what]} tests {what}" for what in ("passed", "failed", "skipped") if type(found.get(what)) is int]
    yield f"The contract of engines on it: {', '.join(counts) or 'not held against it'}{_unless_whole(found)}."


def _models(results: Mapping[str, Any]) -> Iterator[str]:
    for name in (name for name in results if name in SHAPES):
        found = results[name]
        yield from ("", f"### {name}", "")
        if speed := found.get("speed"):
            yield from _speed(found["bytes_read"], speed, results.get("device", {}))
            yield ""
        if "killed" in found:
            killed = found["killed"]
            yield (
                f"`kill -9` of its engine: {killed['whole']} of {killed['streams']} streams were whole; nothing came "
                f"for {killed['gap_s']:.1f} s, while its weights were loaded anew."
            )
        if because := _unless_whole(found):
            yield f"Not all of it was measured{because}."


def _speed(size: int, speed: Mapping[str, Any], device: Mapping[str, Any]) -> Iterator[str]:
    bandwidth = device.get("bandwidth") or device.get("copy_bandwidth")
    yield f"A step reads {size / 1e9:.2f} GB of weights: that is the limit. Tokens a second; time to first token (p50)."
    yield ""
    yield "| streams | raw engine | of the limit | Headrace | `generate_batch` | the gateway's CPU a token |"
    yield "|---|---|---|---|---|---|"
    raw, whole, plain = (speed[who] for who in ("raw engine", "headrace", "generate_batch"))
    for count in raw:
        limit = f"{raw[count]['tokens_per_s'] / (int(count) * bandwidth / size):.0%}" if bandwidth else ""
        cpu_ms = sum(ms for part, ms in whole[count]["cpu_ms_per_token"].items() if part not in OTHERS)
        shares = [f"x{one[count]['against']['raw engine']['tokens_per_s']:.2f}" for one in (whole, plain)]
        yield (
            f"| {count} | {raw[count]['tokens_per_s']:,.0f}, {raw[count]['ttft_p50_ms']:,.0f} ms | {limit} "
            f"| {shares[0]}, {whole[count]['ttft_p50_ms']:,.0f} ms | {shares[1]} | {cpu_ms:.3f} ms |"
        )


def _unless_whole(found: Mapping[str, Any]) -> str:
    return f" ({found['not_whole']})" if "not_whole" in found else ""


def main() -> None:
    """Print it, and write it if that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", type=Path)
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    results = json.loads(args.results.read_text())
    print(made(results))
    if args.write:
        if not results.get("device", {}).get("cuda"):
            sys.exit("These results are not of a CUDA device.")
        (DOCS / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        put(DOCS / "gpu.md", "gpu", made(results))


if __name__ == "__main__":
    main()
