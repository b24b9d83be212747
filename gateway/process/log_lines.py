"""How a log line is written: as JSON, or as text. Each is one line without secrets, whatever it quotes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TextIO

from gateway.process import log_context

#: Prefix of further lines of an entry in text, such as a traceback, so that none looks like an entry of its own.
CONTINUED = "    | "
#: Replaces a secret.
MASK = "***"
#: Shorter secrets are not masked: they may be part of any word.
MIN_SECRET = 6


class LineFormatter(logging.Formatter):
    """One entry with its ids, which its `extra` or its context has; without secrets."""

    def __init__(self, *, as_json: bool = False, secrets: Iterable[str] = ()) -> None:
        super().__init__()
        self._line = json_line if as_json else text_line
        self._secrets = sorted({one for one in secrets if len(one) >= MIN_SECRET}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry."""
        context, given = log_context.current(), record.__dict__
        entry = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **{name: value for name in log_context.IDS if (value := given.get(name) or context.get(name))},
        }
        if record.exc_info:
            entry["error"] = self.formatException(record.exc_info)
        return self._line({name: self._masked(str(value)) for name, value in entry.items()})

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def is_json(wanted: str, stream: TextIO | None) -> bool:
    """Whether lines to this stream are JSON: `json`, `text`, or `auto`: text on a terminal."""
    return wanted == "json" or (wanted != "text" and not (stream and stream.isatty()))


def json_line(entry: Mapping[str, str]) -> str:
    """One line of JSON. What can't be seen is escaped as JSON does, so that a terminal may show it."""
    text = json.dumps(entry, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else json.dumps(one)[1:-1] for one in text)


def text_line(entry: Mapping[str, str]) -> str:
    """One line of text in local time, its ids at the end; a traceback follows in prefixed lines."""
    at = datetime.fromisoformat(entry["time"]).astimezone()
    ids = " ".join(f"{name}={entry[name]}" for name in log_context.IDS if name in entry)
    first = f"{entry['level']} {entry['logger']}: {entry['message']}{f' [{ids}]' if ids else ''}"
    more = entry["error"].split("\n") if "error" in entry else []
    lines = [f"{at:%Y-%m-%d %H:%M:%S},{at.microsecond // 1000:03d} {escaped(first)}"]
    return "\n".join([*lines, *(CONTINUED + escaped(line) for line in more)])


def escaped(text: str) -> str:
    """The text with control and invisible characters escaped as in a Python string."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)
