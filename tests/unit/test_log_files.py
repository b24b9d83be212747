"""Log files: rotated under those who write, and read as if they were in one piece."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from gateway.process import log_files
from gateway.process.locks import hold_lock
from gateway.process.log_files import Follower, last_lines, log_folder, model_log, rotate_all, tend_model_logs
from gateway.settings import Settings

#: Writes numbered lines as a library in C would: to a descriptor that it never opens anew; the last when it is told to.
WRITER = """
import os, sys
count = int(sys.argv[1])
for i in range(count):
    os.write(1, b"line %06d\\n" % i)
os.write(2, b".")
sys.stdin.read()
os.write(1, b"line %06d\\n" % count)
"""


def settings(folder: Path, **changes: int) -> Settings:
    (folder / "logs").mkdir(exist_ok=True)
    return Settings(data_dir=folder, **{"log_file_bytes": 100, "log_files_kept": 2, **changes})  # type: ignore[arg-type]


def parts(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (folder / "logs").iterdir()}


def test_a_long_log_becomes_the_first_of_its_older_parts(tmp_path: Path) -> None:
    some, log = settings(tmp_path), tmp_path / "logs" / "web.log"
    with log.open("a") as writer:
        for letter in "abcd":
            writer.write(letter * 101)
            writer.flush()
            rotate_all(some)
        writer.write("e")
    assert parts(tmp_path) == {"web.log": "e", "web.log.1": "d" * 101, "web.log.2": "c" * 101}


def test_short_logs_and_those_of_other_names_stay(tmp_path: Path) -> None:
    some = settings(tmp_path)
    for name, size in {"web.log": 100, "agent.log": 101, "notes.txt": 500}.items():
        (tmp_path / "logs" / name).write_text("x" * size)
    rotate_all(some, "web*.log")
    assert set(parts(tmp_path)) == {"web.log", "agent.log", "notes.txt"}
    rotate_all(settings(tmp_path, log_file_bytes=0))
    assert set(parts(tmp_path)) == {"web.log", "agent.log", "notes.txt"}
    rotate_all(settings(tmp_path, log_files_kept=0))
    assert parts(tmp_path) == {"web.log": "x" * 100, "agent.log": "", "notes.txt": "x" * 500}


def test_one_that_can_not_be_rotated_keeps_no_other_from_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    some = settings(tmp_path)
    for name in ("a", "b"):
        (tmp_path / "logs" / f"{name}.log").write_text("x" * 200)
    (tmp_path / "logs" / "a.log.new").mkdir()
    rotate_all(some)
    assert (tmp_path / "logs" / "a.log").read_text() == "x" * 200
    assert (tmp_path / "logs" / "b.log.1").read_text() == "x" * 200
    assert "a.log is not rotated" in caplog.text


def test_a_writer_that_knows_nothing_of_it_goes_on_in_the_new_part(tmp_path: Path) -> None:
    count, log = 20_000, tmp_path / "logs" / "web.log"
    some = settings(tmp_path, log_file_bytes=20_000, log_files_kept=100)
    command = [sys.executable, "-c", WRITER, str(count)]
    with log.open("ab") as output, subprocess.Popen(command, stdin=PIPE, stdout=output, stderr=PIPE) as writer:
        assert writer.stderr
        while not select.select([writer.stderr], [], [], 0)[0]:
            rotate_all(some)
        writer.communicate()
    lines = last_lines(log, count)
    assert len(list(log.parent.iterdir())) > 2, "it was rotated meanwhile"
    assert lines[-1] == f"line {count:06d}"
    whole = [line for line in lines if len(line) == len(lines[-1])]  # where it is cut, one may be torn
    assert whole == sorted(whole)


@pytest.mark.parametrize("count", [0, 1, 3, 4, 7, 9, 50])
def test_the_last_lines_come_from_older_parts_too(tmp_path: Path, count: int) -> None:
    log = tmp_path / "web.log"
    lines = [f"{i} " + "x" * 40_000 for i in range(9)]
    for name, some in {"web.log.2": lines[:3], "web.log.1": lines[3:6], "web.log": lines[6:]}.items():
        (tmp_path / name).write_text("".join(f"{line}\n" for line in some))
    assert last_lines(log, count) == lines[max(0, 9 - count) :]
    assert last_lines(log, count, about="4 x") == (lines[4:5] if count else [])


def test_who_follows_a_log_sees_each_line_once(tmp_path: Path) -> None:
    some, log = settings(tmp_path), tmp_path / "logs" / "web.log"
    log.write_text("before\n")
    follower = Follower(log)
    with log.open("a", buffering=1) as writer:
        writer.write("one\ntw")
        assert follower.new_lines() == ["one"]
        writer.write("o\n" + "x" * 100)
        rotate_all(some)
        writer.write("three\n")
        assert follower.new_lines() == ["two", "x" * 100 + "three"]
        writer.write("y" * 200 + "\n")
        rotate_all(some)
        writer.write("z" * 90 + "\nfour\n")
        assert follower.new_lines() == ["y" * 200, "z" * 90, "four"], "the new part may be as long as the old one was"
        assert follower.new_lines() == []


def test_only_so_many_logs_of_ended_model_workers_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "MOST_MODEL_LOGS", 2)
    some = settings(tmp_path)
    for age, name in enumerate(("newest", "new", "old", "oldest", "lives")):
        for path in (model_log(some, name), Path(f"{model_log(some, name)}.1")):
            path.write_text(name)
            os.utime(path, (1_000_000 - age, 1_000_000 - age))
    assert hold_lock(tmp_path, "lives") is not None
    (log_folder(some) / "web.log").write_text("web")
    tend_model_logs(some)
    left = {path.name for path in log_folder(some).iterdir()}
    assert left == {"web.log"} | {f"model-{name}.log{end}" for name in ("newest", "new", "lives") for end in ("", ".1")}
