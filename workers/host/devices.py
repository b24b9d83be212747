"""The devices of this machine and their memory. Imports no engine: an agent must stay small."""

from __future__ import annotations

import importlib.util
import subprocess
from dataclasses import dataclass
from pathlib import Path

from gateway.errors import InvalidSetting
from gateway.models.devices import DeviceName
from gateway.models.engines import SPECS, TOOLS, EngineSpec
from gateway.process.memory import machine_memory
from workers.host.venvs import Environment
from workers.host.vitals import hardware


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
    return Facts(hardware(), *machine_memory())


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
