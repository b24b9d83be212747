"""Log lines: whatever a message or an error quotes, nobody can forge a line, move the cursor or read a secret."""

from __future__ import annotations

import logging
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.process.logs import CONTINUED, LineFormatter, Repeats
from workers.engines import children

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING a\.b: ")
FORGED = "x\n2026-01-01 00:00:00,000 CRITICAL headrace.keeper: all jobs are lost"


def line(message: str, *args: object, error: BaseException | None = None, secrets: tuple[str, ...] = ()) -> str:
    """What is written of one entry."""
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("a.b", logging.WARNING, "f.py", 1, message, args, exc_info)
    written = LineFormatter(secrets=secrets).format(record)
    if not secrets:  # engine processes, which are given none, write the same with what they have
        assert children.LineFormatter(children.FORMAT).format(record) == written
    return written


@given(st.text())
def test_an_entry_is_one_printable_line(text: str) -> None:
    written = line("got %s", text)
    assert LINE.match(written)
    assert written.isprintable()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (FORGED, r"x\n2026-01-01"),
        ("a\r\x1b[2J\x1b[31mFAKE", r"a\r\x1b[2J\x1b[31mFAKE"),
        ("a\x85b\u2028c\u2029d", r"a\x85b\u2028c\u2029d"),
        ("\u202egnp.exe\u2066", r"\u202egnp.exe\u2066"),
        ("\ud83d", r"\ud83d"),
        ("\x00\x7f\x9b1m", r"\x00\x7f\x9b1m"),
        ("Grüße 你好 😊 'q' \\n", "Grüße 你好 😊 'q' \\n"),
    ],
)
def test_what_can_not_be_seen_is_spelled_out(text: str, shown: str) -> None:
    assert shown in line(text)
    assert shown in line("%s", text)


def test_a_traceback_stays_readable_and_forges_no_line() -> None:
    try:
        raise ValueError(FORGED + "\x1b[31m")
    except ValueError as error:
        written = line("it failed", error=error)
    first, *more = written.split("\n")
    assert first.endswith("it failed")
    assert more[0] == CONTINUED + "Traceback (most recent call last):"
    assert all(one.startswith(CONTINUED) and one.isprintable() for one in more)
    assert [one for one in written.split("\n") if LINE.match(one)] == [first]


def test_secrets_are_masked_everywhere() -> None:
    try:
        raise ValueError("can't reach redis://:s3cret-word@host")
    except ValueError as error:
        written = line("using %s", "s3cret-word", error=error, secrets=("s3cret-word", "", "a"))
    assert "s3cret-word" not in written
    assert written.count("***") == 3, "in the message, the source line and the error"
    assert "using" in written, "what is too short to be a secret stays"


def test_a_message_that_does_not_fit_its_arguments_is_no_end(capsys: pytest.CaptureFixture[str]) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(LineFormatter())
    handler.handle(logging.LogRecord("a.b", logging.INFO, "f.py", 1, "%d", ("x",), None))
    assert "--- Logging error ---" in capsys.readouterr().err


def test_the_same_failure_is_said_now_and_then_with_how_often_it_was() -> None:
    now = 0.0
    repeats = Repeats(pause_s=30.0, clock=lambda: now)

    def said(message: str, *args: object, error: BaseException | None = None) -> str:
        exc_info = (type(error), error, None) if error else None
        record = logging.LogRecord("a.b", logging.WARNING, "f.py", 1, message, args, exc_info)
        return record.getMessage() if repeats.filter(record) else ""

    away = ConnectionError("Error 111, try 1")
    assert said("%s waits: %s", "keeper", away) == "keeper waits: Error 111, try 1"
    for second in range(1, 30):
        now = float(second)
        assert said("%s waits: %s", "keeper", ConnectionError(f"Error 111, try {second}")) == ""
    assert said("%s waits: %s", "agent", away), "another one"
    assert said("%s waits: %s", "keeper", ConnectionError("Error: 100% full")), "another failure"
    assert said("job %s: %s", "a", "text") == said("job %s: %s", "a", "text"), "no error is quoted"
    assert said("%s: %s", "keeper", away, error=away) == said("%s: %s", "keeper", away, error=away), "with a traceback"
    now = 30.0
    assert said("%s waits: %s", "keeper", away) == "keeper waits: Error 111, try 1 (and 29 times before)"
    now = 61.0
    assert said("%s waits: %s", "keeper", ConnectionError("Error: 100% full")) == "keeper waits: Error: 100% full"
