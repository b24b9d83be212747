"""A conversation is continued by one turn."""

from __future__ import annotations

from gateway.kinds.text_job import TextKind


class Chat(TextKind):
    """Its prompt is a list of messages."""

    capability = "chat"
