"""Log lines, the same for every process: each message is one line without secrets, whatever it quotes."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Iterable

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Prefix of further lines of an entry, such as a traceback, so that none looks like an entry of its own.
CONTINUED = "    | "
#: Replaces a secret.
MASK = "***"
#: Shorter secrets are not masked: they may be part of any word.
MIN_SECRET = 6

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


def escaped(text: str) -> str:
    """The text with control and invisible characters escaped as in a Python string."""
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def set_up(level: str, *, fmt: str = FORMAT, secrets: Iterable[str] = ()) -> None:
    """Log to stderr from this level on, including warnings and uncaught exceptions, also for libraries."""
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(fmt, secrets=secrets))
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
