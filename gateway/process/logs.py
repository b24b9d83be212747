"""What a process logs, and from which level on. How lines look: `log_lines.py`; their ids: `log_context.py`."""

from __future__ import annotations

import logging
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable

from gateway.process.log_lines import LineFormatter, is_json

#: The packages whose lines are written at the level `debug`. Others would write requests, answers and keys there.
OURS = ("__main__", "cli", "gateway", "headrace", "schemas", "tasks", "web", "workers")
#: What Celery says of each task at the level `info`: it is for `debug`.
OF_EACH_TASK = ("celery.worker.strategy", "celery.app.trace")
#: The same failure of the same thing is not said again for so long, in seconds; and how many are remembered.
REPEAT_S, _REMEMBERED = 30.0, 500
_NUMBER = re.compile(r"\d+")

log = logging.getLogger(__name__)


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


def set_up(level: str, *, form: str, secrets: Iterable[str] = ()) -> None:
    """Log to stderr from this level on, in this form, including warnings and uncaught exceptions, also of libraries."""
    least = logging.getLevelNamesMapping()[level.upper()]
    handler = logging.StreamHandler()
    handler.setFormatter(LineFormatter(as_json=is_json(form, sys.stderr), secrets=secrets))
    handler.addFilter(Repeats())
    logging.basicConfig(level=max(least, logging.INFO), handlers=[handler], force=True)
    for name in OURS:
        logging.getLogger(name).setLevel(least)
    for name in OF_EACH_TASK:
        logging.getLogger(name).setLevel(logging.INFO if least <= logging.DEBUG else max(least, logging.WARNING))
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
