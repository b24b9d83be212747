"""Log lines, the same for every process: each message is one line without secrets, whatever it quotes."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Prefix of further lines of an entry, such as a traceback, so that none looks like an entry of its own.
CONTINUED = "    | "
#: Replaces a secret.
MASK = "***"
#: Shorter secrets are not masked: they may be part of any word.
MIN_SECRET = 6
#: The same failure of the same thing is not said again for so long, in seconds; and how many are remembered.
REPEAT_S, _REMEMBERED = 30.0, 500
_NUMBER = re.compile(r"\d+")

log = logging.getLogger(__name__)


class LineFormatter(logging.Formatter):
    """One line for each entry; a traceback follows in prefixed lines. Control characters are escaped."""

    def __init__(self, fmt: str = FORMAT, *, secrets: Iterable[str] = ()) -> None:
        super().__init__(fmt)
        self._secrets = sorted({one for one in secrets if len(one) >= MIN_SECRET}, key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """The whole entry."""
        quoted = {"msg": escaped(record.getMessage()), "args": None, "exc_text": None}
        first, *more = super().format(logging.makeLogRecord(record.__dict__ | quoted)).split("\n")
        text = "\n".join((first, *(CONTINUED + escaped(line) for line in more)))
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


class Repeats(logging.Filter):
    """Drops what was said lately: the same failure of the same thing, as while Redis is away. It comes again, with the
    number of those that were left out, when it lasts.

    Only entries that quote an error are meant, without a traceback. They are the same if they are so up to that error,
    which may differ in its numbers.
    """

    def __init__(self, pause_s: float = REPEAT_S, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._pause_s = pause_s
        self._clock = clock
        #: When it was said last, and how often it was left out since.
        self._said: dict[tuple[str, ...], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether it is to be written."""
        same = () if record.exc_info else _same(record)
        if not same:
            return True
        now = self._clock()
        at, left_out = self._said.pop(same, (now - self._pause_s, 0))
        if now < at + self._pause_s:
            self._said[same] = (at, left_out + 1)
            return False
        while len(self._said) >= _REMEMBERED:
            self._said.pop(next(iter(self._said)))
        self._said[same] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} times before)".replace("%", "%%"), ()
        return True


def _same(record: logging.LogRecord) -> tuple[str, ...]:
    """What the same entries have in common; empty if it quotes no error."""
    args = record.args if isinstance(record.args, tuple) else ()
    for i, one in enumerate(args):
        if isinstance(one, BaseException):
            return (record.name, str(record.msg), *map(str, args[:i]), _NUMBER.sub("0", str(one)))
    return ()


def escaped(text: str) -> str:
    """The text with control and invisible characters escaped as in a Python string."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def set_up(level: str, *, fmt: str = FORMAT, secrets: Iterable[str] = ()) -> None:
    """Log to stderr from this level on, including warnings and uncaught exceptions, also for libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(fmt, secrets=secrets))
    handler.addFilter(Repeats())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(True)
    threading.excepthook = _on_thread_end
    sys.excepthook = _on_end


def _on_thread_end(args: threading.ExceptHookArgs) -> None:
    if args.exc_type is SystemExit or args.exc_value is None:
        return
    name = args.thread.name if args.thread else "?"
    log.error("thread %s has ended", name, exc_info=args.exc_value)


def _on_end(kind: type[BaseException], error: BaseException, _: object) -> None:
    if not issubclass(kind, KeyboardInterrupt):
        log.critical("this process ends", exc_info=error)
