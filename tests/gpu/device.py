"""What the device is, and how fast its memory: `python -m tests.gpu.device`."""

from __future__ import annotations

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

#: Bytes a second by the makers' data sheets; the first name that is part of the device's own counts.
BANDWIDTH = {
    "H200": 4.8e12,
    "H100 PCIe": 2.0e12,
    "H100": 3.35e12,
    "A100-SXM4-80GB": 2.04e12,
    "A100": 1.56e12,
    "L40S": 0.864e12,
    "L4": 0.3e12,
}
#: Bytes that are copied, on a CPU and on CUDA: several times what its caches hold.
COPIED_BYTES = {"cpu": 1 << 28, "cuda": 4 << 30}
COPIES = 10


def nominal_bandwidth(name: str) -> float | None:
    """Of a device by its name, as its maker says; None for one that is not in the table."""
    return next((bandwidth for part, bandwidth in BANDWIDTH.items() if part in name), None)


def in_torch(device: str) -> Any:
    """`cuda1` as torch has it."""
    import torch

    return torch.device("cpu") if device.startswith("cpu") else torch.device("cuda", int(device.removeprefix("cuda")))


def copy_bandwidth(device: Any) -> float:
    """Bytes a second, read and written, of the fastest of some large copies."""
    import torch

    source = torch.ones(COPIED_BYTES[device.type], dtype=torch.uint8, device=device)
    target, times = torch.empty_like(source), []
    for _ in range(COPIES):
        begun = time.perf_counter()
        target.copy_(source)
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        times.append(time.perf_counter() - begun)
    return 2 * source.numel() / min(times)


def describe(device: str) -> dict[str, Any]:
    """Name, memory, bandwidth, and the versions of what computes there."""
    import torch

    place = in_torch(device)
    is_cuda = place.type == "cuda"
    name = torch.cuda.get_device_name(place) if is_cuda else platform.processor() or platform.machine()
    return {
        "name": name,
        "memory_bytes": torch.cuda.get_device_properties(place).total_memory if is_cuda else 0,
        "bandwidth": nominal_bandwidth(name),
        "copy_bandwidth": copy_bandwidth(place),
        "cuda": torch.version.cuda if is_cuda else None,
        "python": platform.python_version(),
        "versions": {package: version(package) for package in ("torch", "transformers")},
    }


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", required=True)
    parser.add_argument("--out", type=Path, required=True)
    args = parser.parse_args()
    args.out.write_text(json.dumps(describe(args.device)))


if __name__ == "__main__":
    main()
