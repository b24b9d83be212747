"""Log lines of this room, as `gateway/process/log_lines.py` writes them: a test holds both to the same lines."""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import datetime, timezone

CONTINUED = "    | "
IDS = ("request_id", "job_id", "claim_id", "model", "key_id", "trace_id")
#: How lines look: `json`, `text`, or `auto`: text on a terminal.
FORM = "HEADRACE_LOG_FORMAT"


class LineFormatter(logging.Formatter):
    """One entry, with the ids that its `extra` has. `who` is what the process is called beside its logger's name."""

    def __init__(self, *, as_json: bool, who: str = "") -> None:
        super().__init__()
        self._line = json_line if as_json else text_line
        self._who = who

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry."""
        at = datetime.fromtimestamp(record.created, timezone.utc)  # noqa: UP017 - not every interpreter has UTC
        given = record.__dict__
        entry = {
            "time": at.isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": f"{record.name} {self._who}".rstrip(),
            "message": record.getMessage(),
            **{name: str(given[name]) for name in IDS if given.get(name)},
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return self._line(entry)


def wants_json() -> bool:
    """Whether stderr gets JSON."""
    wanted = os.environ.get(FORM, "")
    return wanted == "json" or (wanted != "text" and not sys.stderr.isatty())


def json_line(entry: Mapping[str, str]) -> str:
    """One line of JSON. What can't be seen is escaped as JSON does."""
    text = json.dumps(entry, ensure_ascii=False)
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def text_line(entry: Mapping[str, str]) -> str:
    """One line of text in local time, its ids at the end; a traceback follows in prefixed lines."""
    at = datetime.fromisoformat(entry["time"]).astimezone()
    ids = " ".join(f"{name}={entry[name]}" for name in IDS if name in entry)
    first = f"{entry['level']} {entry['logger']}: {entry['message']}{f' [{ids}]' if ids else ''}"
    more = entry["error"].split("\n") if "error" in entry else []
    lines = [f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} {escaped(first)}"]
    return "\n".join([*lines, *(CONTINUED + escaped(line) for line in more)])


def escaped(text: str) -> str:
    """The text with control and invisible characters escaped as in a Python string."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
