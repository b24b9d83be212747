"""How each process logs: one record begins one line, and nothing in it can begin another or command a terminal, whoever
has chosen the text.
"""

from __future__ import annotations

import logging
import sys

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
#: Control characters, and what else ends a line (Unicode, categories Cc, Zl and Zp), as Python writes them.
_ESCAPED = {code: repr(chr(code))[1:-1] for code in (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)}


class OneLine(logging.Formatter):
    """Escapes control characters. The lines of a traceback are indented."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in logging
        """The line."""
        return super().formatMessage(record).translate(_ESCAPED)

    def formatException(self, ei: object) -> str:  # noqa: N802
        """The lines of a traceback."""
        return _indented(super().formatException(ei))  # type: ignore[arg-type]

    def formatStack(self, stack_info: str) -> str:  # noqa: N802
        """The lines of a stack."""
        return _indented(stack_info)


def configure(level: str, log_format: str = FORMAT) -> None:
    """To be called once, when a process begins."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLine(log_format))
    logging.basicConfig(level=level.upper(), handlers=[handler])


def _indented(text: str) -> str:
    return "\n".join(f"  {line.translate(_ESCAPED)}" for line in text.split("\n"))
