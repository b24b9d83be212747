"""The id that names one request in answers and logs, of both faces."""

from __future__ import annotations

import re
import secrets

#: What a client may choose.
_ALLOWED = re.compile(r"[A-Za-z0-9._:-]{1,128}")


def request_id(wanted: str) -> str:
    """The id that the client has sent, if it is valid; else a new one."""
    return wanted if _ALLOWED.fullmatch(wanted) else secrets.token_hex(16)
