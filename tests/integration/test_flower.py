"""Flower is bounded, and can be left off."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import httpx

from tests.homes import new_home
from tests.stack import PATIENCE_S, eventually, free_port, running


def test_it_remembers_the_newest_tasks_only(tmp_path: Path) -> None:
    with running(tmp_path / "s", {"fake": {}}, flower_port=free_port(), flower_max_tasks=5) as stack:
        stack.start("flower", [sys.executable, "-m", "cli.flower"])
        password = tmp_path / "s" / "keys" / "flower.password"
        eventually(password.exists, "it has a password")
        url = f"http://127.0.0.1:{stack.settings.flower_port}"
        with httpx.Client(base_url=url, auth=("admin", password.read_text().strip()), timeout=PATIENCE_S) as flower:

            def tasks() -> list[str]:
                try:
                    return list(flower.get("/api/tasks").json())
                except httpx.TransportError:
                    return []

            with stack.client() as client:

                def ask() -> str:
                    body = {"messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
                    return str(client.post("/models/fake/chat/completions", json=body).headers["X-Job-Id"])

                eventually(lambda: ask() in tasks(), "it sees jobs")
                newest = [ask() for _ in range(12)][-5:]
            eventually(lambda: set(tasks()) == set(newest), "it has the newest, and no others")


def test_it_can_be_left_off(tmp_path: Path) -> None:
    home = new_home(tmp_path)
    home.environ |= {"HEADRACE_FLOWER": "off", "HEADRACE_DEMO_MODEL": "", "HEADRACE_REDIS_MEMORY_BYTES": str(2**30)}
    process = home.start("up")
    try:
        deadline = time.monotonic() + 2 * PATIENCE_S
        while "Ctrl-C ends everything" not in home.said:
            assert process.poll() is None and time.monotonic() < deadline, home.said
            time.sleep(0.1)
        assert "Redis takes 1.0 GiB of memory at most, and evicts nothing" in home.said
        assert "  Flower    off (HEADRACE_FLOWER)" in home.said
        assert "  Dashboard http://" in home.said
        status = home.command("status").stdout
        assert "  keeper" in status
        assert "flower" not in status
        doctor = home.command("doctor").stdout
        assert "ports            HTTP" in doctor
        assert "flower           off (HEADRACE_FLOWER)" in doctor
        assert "values at /metrics" in doctor
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
