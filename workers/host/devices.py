"""The devices of this machine and their memory. Imports no engine: an agent must stay small."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from gateway.errors import InvalidSetting
from gateway.models.devices import DeviceName
from gateway.models.engines import SPECS, TOOLS, EngineSpec
from workers.host.venvs import Environment
from workers.host.vitals import hardware

#: cgroup v2's memory limit of this process, if it has one.
_CGROUP = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Facts:
    """Name of the hardware; memory in bytes, of the device itself."""

    hardware: str
    memory_total: int
    memory_free: int


def describe_device(device: str) -> Facts:
    """Raises: InvalidSetting if this machine has no such device."""
    kind, number = DeviceName.parse(device)
    if kind == "cpu":
        return _cpu()
    if kind == "cuda" and number is not None:
        return _cuda(number)
    raise InvalidSetting(f"HEADRACE_DEVICE is {device!r}; it must be cpu0, or cuda0, cuda1, ...")


def installed_engines(data_dir: Path) -> tuple[str, ...]:
    """The engines and their tools that are installed here: in this environment, or in one of their own."""
    tools = (tool for tool in sorted(TOOLS) if Environment.of(tool, data_dir).installed())
    return (*(name for name, spec in SPECS.items() if _is_installed(spec, data_dir)), *tools)


def _is_installed(spec: EngineSpec, data_dir: Path) -> bool:
    if spec.is_apart:
        return Environment.of(spec.name, data_dir).installed() is not None
    return all(map(importlib.util.find_spec, spec.requires))


def _cpu() -> Facts:
    memory = psutil.virtual_memory()
    total, free = int(memory.total), int(memory.available)
    limit, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if limit:
        total, free = min(total, limit), min(free, max(0, limit - used))
    return Facts(hardware(), total, free)


def _cuda(number: int) -> Facts:
    query = [
        "nvidia-smi",
        f"--id={number}",
        "--query-gpu=name,memory.total,memory.free",
        "--format=csv,noheader,nounits",
    ]
    try:
        done = subprocess.run(query, check=True, capture_output=True, text=True, timeout=10)
    except (OSError, subprocess.SubprocessError) as error:
        raise InvalidSetting(f"HEADRACE_DEVICE is 'cuda{number}', but nvidia-smi does not know it: {error}") from error
    name, total, free = done.stdout.strip().rsplit(",", 2)
    return Facts(name, int(total) << 20, int(free) << 20)


def _number(path: Path) -> int:
    """A number in a file of the kernel; 0 if there is none."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
