"""`make gpu`: what engines do on a machine with a CUDA device, in minutes, with nothing from outside.

`python -m tests.gpu` takes any interpreter that has torch and transformers. It makes an environment of its own beside
their packages, of the wheels that `make gpu-wheels` has gathered, and runs the parts there one after the other, each
within its time. What was measured until then is in gpu.json, also if a part has failed or there was no time for it.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import site
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
#: Where wheels are gathered, the environment is made, and results are put by default.
BUILD = ROOT / "build" / "gpu"
#: Seconds that a part whose time is over has to end what it has started, and that the results take.
END_S = 20.0
BUDGET_S = 480.0


@dataclass(frozen=True)
class Part:
    """A module that measures: the name of its results, the seconds that it must have, and its share of all, at most."""

    name: str
    arguments: tuple[str, ...]
    least_s: float
    most: float


def parts(names: str, device: str, streams: str) -> list[Part]:
    """Those of the names, in their order: `device`, `contract`, and models of tests/gpu/models.py."""
    first = {
        "device": Part("device", ("tests.gpu.device", "--device", device), 10, 0.15),
        "contract": Part("contract", ("tests.gpu.contract", "--device", device), 30, 0.35),
    }
    asked = ("--device", device, "--streams", streams)
    return [
        first.get(name) or Part(name, ("tests.gpu.speed", "--model", name, *asked), 60, 0.5)
        for name in names.split(",")
    ]


def environment(folder: Path, wheels: Path) -> Path:
    """An interpreter that finds the packages of the wheels first, then those of this one. It asks no index."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--clear", str(folder)], check=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    beside = [*site.getsitepackages(), *([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])]
    (packages / "beside.pth").write_text("".join(f"import site; site.addsitedir({place!r})\n" for place in beside))
    pip = [sys.executable, "-m", "pip", "--python", str(python), "--disable-pip-version-check", "install", "--quiet"]
    local = ["--no-index", "--no-deps", "--no-compile", "--no-cache-dir", "--ignore-installed"]
    subprocess.run([*pip, *local, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    return python


def run(part: Part, python: Path | str, out: Path, timeout_s: float) -> dict[str, Any]:
    """The results of a part, how long it took and, if they are not whole, why. Its output is in a file."""
    begun, result = time.monotonic(), out / f"{part.name}.json"
    result.unlink(missing_ok=True)
    with (out / f"{part.name}.log").open("w") as log:
        process = subprocess.Popen(
            [str(python), "-m", *part.arguments, "--out", str(result)],
            cwd=ROOT,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
        try:
            status: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
            end(process)
    found: dict[str, Any] = json.loads(result.read_text()) if result.exists() else {}
    found["seconds"] = round(time.monotonic() - begun, 1)
    if status is None:
        found["not_whole"] = f"it had {timeout_s:.0f} s"
    elif status:
        said = (out / f"{part.name}.log").read_text(errors="replace").strip().rpartition("\n")[2]
        found["not_whole"] = f"it has ended with status {status}: {said:.200}"
    return found


def end(process: subprocess.Popen[bytes]) -> None:
    """Let a process and its group end, in peace if that is quick."""
    os.killpg(process.pid, signal.SIGINT)
    try:
        process.wait(END_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def main() -> int:
    """Run all parts for which there is time. Returns the exit status: whether one has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda0", help="cuda0, cuda1, ...; cpu0 rehearses without one")
    parser.add_argument("--parts", default="device,contract,smollm2,llama-8b", help="the models: tests/gpu/models.py")
    parser.add_argument("--streams", default="1,32,256")
    parser.add_argument("--budget-s", type=float, default=BUDGET_S, help="for all together")
    parser.add_argument("--wheels", type=Path, default=BUILD / "wheels", help="none there: this interpreter's packages")
    parser.add_argument("--out", type=Path, default=BUILD, help="folder for gpu.json and the parts' output")
    args = parser.parse_args()
    begun, out = time.monotonic(), args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    python: Path | str = sys.executable
    if any(args.wheels.glob("*.whl")):
        python = environment(BUILD / "venv", args.wheels)
    results: dict[str, Any] = {}
    failed = []
    for part in parts(args.parts, args.device, args.streams):
        left_s = args.budget_s - END_S - (time.monotonic() - begun)
        if left_s < part.least_s:
            found = {"not_whole": f"skipped: {max(0.0, left_s):.0f} s were left, and it takes {part.least_s:.0f} s"}
        else:
            found = run(part, python, out, min(left_s, part.most * args.budget_s))
            failed += [f"{part.name}: {found['not_whole']}; see {out / part.name}.log"] if "not_whole" in found else []
        results[part.name] = found
        (out / "gpu.json").write_text(json.dumps(results, indent=1) + "\n")
        print(f"{part.name}: {found.get('not_whole', 'done')}, {found.get('seconds', 0)} s", flush=True)
    subprocess.run([str(python), "-m", "tests.gpu.page", str(out / "gpu.json")], cwd=ROOT, check=True)
    print("\n".join(failed), file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
