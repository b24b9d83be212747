"""A log line is one line, whatever is in it."""

from __future__ import annotations

import logging
import sys

import pytest

from gateway.logs import FORMAT, OneLine

FORGED = "2026-01-01 00:00:00,000 ERROR forged"


def line(message: str, error: BaseException | None = None) -> str:
    record = logging.LogRecord("x", logging.ERROR, "f", 1, message, (), (type(error), error, None) if error else None)
    return OneLine(FORMAT).format(record)


@pytest.mark.parametrize("breaks", ["\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1e", "\x85", "\u2028", "\u2029"])
def test_a_message_can_not_begin_another_line(breaks: str) -> None:
    text = line(f"a{breaks}{FORGED}")
    assert text.splitlines() == [text]
    assert FORGED in text


@pytest.mark.parametrize("command", ["\x1b[2J", "\x9b2J", "\b", "\0", "\x07"])
def test_nor_command_a_terminal(command: str) -> None:
    text = line(f"a{command}b", ValueError(f"c{command}d"))
    assert command[0] not in text
    assert r"\x" in text


def test_an_exception_keeps_its_lines_but_none_begins_like_a_record() -> None:
    text = line("failed", ValueError(f"x\n{FORGED}\r{FORGED}"))
    assert len(text.splitlines()) == 3
    assert all(one.startswith("  ") for one in text.splitlines()[1:])


def test_a_traceback_can_be_read() -> None:
    try:
        raise ValueError("x")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, "f", 1, "m", (), sys.exc_info())
    assert "test_logs.py" in OneLine(FORMAT).format(record)
