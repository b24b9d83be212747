"""How much memory this process may have."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from gateway.process import memory
from gateway.process.memory import machine_memory
from gateway.settings import Settings
from gateway.store.embedded import MOST_BYTES, memory_limit

GIB = 2**30


def group(folder: Path, names: tuple[str, str], limit: object, used: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, used), strict=True):
        (folder / name).write_text(f"{value}\n")


V2, V1 = ("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")


@pytest.mark.parametrize(
    ("own", "group_folder", "names"),
    [
        ("0::/\n", "", V2),
        ("0::/system.slice/headrace.service\n", "system.slice", V2),
        ("0::/system.slice/headrace.service\n", "system.slice/headrace.service", V2),
        ("8:pids:/x\n4:cpu,memory:/docker/1\n0::/init\n", "memory/docker/1", V1),
        # In a container the path is the host's, and what is mounted is the container's own group.
        ("4:memory:/docker/1\n", "memory", V1),
    ],
)
def test_the_least_limit_of_all_groups_above_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, own: str, group_folder: str, names: tuple[str, str]
) -> None:
    group(tmp_path / group_folder, names, GIB, GIB // 4)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    found = machine_memory()
    assert found.total == GIB
    assert found.free <= GIB - GIB // 4
    assert memory_limit(Settings()) == GIB // 4


@pytest.mark.parametrize(("names", "cached"), [(V2, "inactive_file"), (V1, "total_inactive_file")])
def test_copies_of_files_that_the_kernel_gives_back_count_as_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: tuple[str, str], cached: str
) -> None:
    """A download fills them, and a model is to be loaded then."""
    folder = tmp_path if names is V2 else tmp_path / "memory"
    group(folder, names, GIB, GIB)
    (folder / "memory.stat").write_text(f"anon 5\n{cached} {GIB // 2}\n")
    (tmp_path / "own").write_text("0::/\n" if names is V2 else "4:memory:/\n")
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory, "_OWN", tmp_path / "own")
    assert machine_memory().free == min(GIB // 2, psutil.virtual_memory().available)


def test_without_a_limit_it_is_the_machines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group(tmp_path, V2, "max", GIB)
    monkeypatch.setattr(memory, "_ROOT", tmp_path)
    monkeypatch.setattr(memory, "_OWN", tmp_path / "none")
    total = psutil.virtual_memory().total
    assert machine_memory().total == total
    assert memory_limit(Settings()) == min(MOST_BYTES, total // 4)


def test_a_setting_counts_more() -> None:
    assert memory_limit(Settings(redis_memory_bytes=5)) == 5
