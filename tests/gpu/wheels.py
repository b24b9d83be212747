"""`make gpu-wheels`: what `make gpu` needs beside torch, as wheels in a folder that can be carried to a machine.

`python -m tests.gpu.wheels --python 3.12` is for that version of Python on x86-64 Linux. transformers comes along, as
its batching must be of the version that the engine is written for; what it needs is there with the machine's own.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from tests.gpu.__main__ import BUILD, ROOT

#: With these a machine has torch and transformers.
THERE = (
    *("torch", "numpy", "tokenizers", "safetensors", "accelerate", "hf-xet", "pyyaml", "regex", "tqdm", "typer"),
    *("filelock", "fsspec", "jinja2", "requests"),
)
#: What is for other engines, for gRPC and for Flower.
NOT_USED = (
    *("openvino-genai", "nncf", "optimum", "torchao", "flower"),
    *("grpcio", "grpcio-status", "grpcio-health-checking", "grpcio-reflection"),
)
#: What runs the tests.
TESTS = ("pytest", "pytest-timeout")
#: More may not travel, the checkout included.
MOST_BYTES = 64 << 20
#: Oldest and newest C library that a wheel may be built for, as in `manylinux_2_17`.
LIBC = (5, 39)


def requirements(python: str) -> str:
    """Each package with its version: those that the product needs in all, without those that are left out."""
    never = BUILD / "never.txt"
    never.write_text("".join(f"{name}; python_version < '3'\n" for name in (*THERE, *NOT_USED)))
    wanted = BUILD / "tests.txt"
    wanted.write_text("\n".join(TESTS) + "\n")
    uv = [str(Path(sys.executable).parent / "uv"), "pip", "compile", "setup.cfg", str(wanted), "--extra", "worker"]
    told = ["--override", str(never), "--python-version", python, "--python-platform", "x86_64-manylinux_2_28"]
    quiet = ["--no-annotate", "--no-header", "--quiet"]
    return subprocess.run([*uv, *told, *quiet], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def download(python: str, folder: Path) -> None:
    """Get them, in the place of what was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    file = folder.parent / "requirements.txt"
    file.write_text(requirements(python))
    oldest, newest = LIBC
    platforms = [f"manylinux_2_{minor}_x86_64" for minor in range(newest, oldest - 1, -1)]
    platforms += ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64", "linux_x86_64", "any"]
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "download", "--quiet", "--no-deps"]
    kind = ["--only-binary=:all:", "--python-version", python, "--implementation", "cp"]
    abis = [f"cp{python.replace('.', '')}", "abi3", "none"]
    asked = [*(f"--abi={abi}" for abi in abis), *(f"--platform={platform}" for platform in platforms)]
    subprocess.run([*pip, *kind, *asked, "--dest", str(folder), "--requirement", str(file)], check=True)


def main() -> None:
    """Gather, and say how much it is. Ends with an error if it is too much."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu.wheels", description=__doc__)
    parser.add_argument("--python", default="{}.{}".format(*sys.version_info), help="version of the machine's Python")
    args = parser.parse_args()
    folder = BUILD / "wheels"
    BUILD.mkdir(parents=True, exist_ok=True)
    download(args.python, folder)
    wheels = list(folder.glob("*.whl"))
    size = sum(path.stat().st_size for path in wheels)
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
    checkout = sum((ROOT / name.decode()).lstat().st_size for name in tracked.split(b"\0") if name)
    print(f"{len(wheels)} wheels in {folder}: {size / 2**20:.1f} MiB, and the checkout has {checkout / 2**20:.1f} MiB")
    if size + checkout > MOST_BYTES:
        sys.exit(f"Together that is more than {MOST_BYTES >> 20} MiB.")


if __name__ == "__main__":
    main()
