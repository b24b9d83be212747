"""A text is continued."""

from __future__ import annotations

from gateway.kinds.text_job import TextKind


class Completion(TextKind):
    """Its prompt is a text, or several of them."""

    capability = "completion"
