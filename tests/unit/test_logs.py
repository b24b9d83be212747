"""Log lines: whatever a message or an error quotes, nobody can forge a line, move the cursor or read a secret."""

from __future__ import annotations

import contextvars
import io
import json
import logging
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.process import log_context
from gateway.process.log_lines import CONTINUED, LineFormatter, is_json, text_line
from gateway.process.logs import Repeats
from tests.stack import REPOSITORY
from workers.engines import log_lines as of_engines

LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING a\.b: ")
FORGED = "x\n2026-01-01 00:00:00,000 CRITICAL headrace.keeper: all jobs are lost"


@pytest.fixture(autouse=True, scope="module")
def _no_request() -> Iterator[None]:
    """Other tests run the application in this process, and leave the ids of their last request."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(log_context, "_ids", contextvars.ContextVar("ids", default=None))
        yield


def line(
    message: str,
    *args: object,
    error: BaseException | None = None,
    secrets: tuple[str, ...] = (),
    as_json: bool = False,
    **ids: str,
) -> str:
    """What is written of one entry. As JSON it has all that the text has."""
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("a.b", logging.WARNING, "f.py", 1, message, args, exc_info)
    record.__dict__.update(ids)
    text, entry = (LineFormatter(as_json=one, secrets=secrets).format(record) for one in (False, True))
    if not secrets:  # engine processes, which are given none, write the same with what they have
        assert of_engines.LineFormatter(as_json=False).format(record) == text
        assert of_engines.LineFormatter(as_json=True).format(record) == entry
    assert entry.isprintable()
    assert text_line(json.loads(entry)) == text
    return entry if as_json else text


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


@pytest.mark.parametrize(
    ("level", "ours", "celerys", "others"), [("debug", 10, 20, 20), ("INFO", 20, 30, 20), ("error", 40, 40, 40)]
)
def test_levels_are_of_our_lines_and_no_library_says_what_it_sends(
    level: str, ours: int, celerys: int, others: int
) -> None:
    names = ["gateway.jobs.store", "celery.app.trace", "openai._base_client"]
    ask = f"from gateway.process.logs import set_up; import logging; set_up({level!r}, form='')\n"
    ask += f"print([logging.getLogger(name).getEffectiveLevel() for name in {names}])"
    said = subprocess.run([sys.executable, "-c", ask], capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert json.loads(said.stdout) == [ours, celerys, others]


@pytest.mark.parametrize(
    ("wanted", "on_terminal", "elsewhere"),
    [("auto", False, True), ("", False, True), ("text", False, False), ("json", True, True)],
)
def test_a_terminal_gets_text_unless_json_is_asked_for(
    wanted: str, on_terminal: bool, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setenv("HEADRACE_LOG_FORMAT", wanted)
    for stream, expected in ((Terminal(), on_terminal), (io.StringIO(), elsewhere)):
        monkeypatch.setattr(sys, "stderr", stream)
        assert is_json(wanted, stream) == expected == of_engines.wants_json()


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


def test_json_has_the_message_as_it_was_with_ids_and_traceback() -> None:
    try:
        raise ValueError(FORGED)
    except ValueError as error:
        entry = json.loads(line("got %s", '"\x1b[2J\u202e\ud83d', error=error, as_json=True, job_id="j1", model="m"))
    assert set(entry) == {"time", "level", "logger", "message", "job_id", "model", "error"}
    assert (entry["level"], entry["logger"], entry["job_id"]) == ("WARNING", "a.b", "j1")
    assert entry["message"] == 'got "\x1b[2J\u202e\ud83d'
    assert entry["error"].startswith("Traceback")
    assert entry["error"].endswith(FORGED)


def test_a_secret_that_json_would_escape_is_masked() -> None:
    secret = 'quo"ted\\\x07'
    assert json.loads(line("using %s", secret, secrets=(secret,), as_json=True))["message"] == "using ***"
    assert json.loads(line("x", secrets=("secret-job",), as_json=True, job_id="secret-job"))["job_id"] == "***"


def test_text_has_the_ids_at_its_end_and_nobody_can_forge_them() -> None:
    assert line("it failed", request_id="r1", job_id="j1").endswith(": it failed [request_id=r1 job_id=j1]")
    assert line("it failed", job_id="j\n1").endswith(": it failed [job_id=j\\n1]")


def test_lines_have_the_ids_of_their_context() -> None:
    record = logging.LogRecord("a.b", logging.INFO, "f.py", 1, "x", (), None)

    def written() -> str:
        return LineFormatter().format(record).partition(": ")[2]

    def request() -> None:
        log_context.begin(request_id="r1")
        assert written() == "x [request_id=r1]"
        worker = contextvars.copy_context()
        worker.run(log_context.note, key_id="k1")
        assert written() == "x [request_id=r1 key_id=k1]", "what a thread has found out that works for it"
        with log_context.about({"job_id": "j1", "key_id": ""}):
            assert written() == "x [request_id=r1 job_id=j1]"
        log_context.begin(request_id="r2")
        assert written() == "x [request_id=r2]", "the next one on this connection"
        assert log_context.request_id() == "r2"

    contextvars.copy_context().run(request)
    log_context.note(key_id="k1")
    assert written() == "x", "nothing of it is left, and what belongs to no request notes nothing"
    assert log_context.request_id() == ""
