"""What a turn says: a text, or parts. Images, audio and files are for remote models; nothing of them is read here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from marshmallow import ValidationError, fields

from schemas.base.bounds import give_way
from schemas.base.fields import MAX_DEPTH, as_text, shaped, shown, too_deep

#: Parts besides texts, each with its object, and which of its fields says what it is.
MEDIA = {"image_url": ("url",), "input_audio": ("data",), "file": ("file_data", "file_id")}
#: Whose turns may have them.
_MEDIA_ROLES = ("user", "tool", "function")
_ALLOWED = f'{{"type": "text", "text": "..."}}, and in turns of {" and ".join(_MEDIA_ROLES[:2])} {", ".join(MEDIA)}'
#: Where an image may be.
_SCHEMES = ("data:", "https://", "http://")
_TEXT: Mapping[str, Any] = {"type": "string"}


def _part(kind: str, shape: Mapping[str, Any]) -> dict[str, Any]:
    properties = {"type": {"type": "string", "enum": [kind]}, kind: shape}
    return {"type": "object", "properties": properties, "required": ["type", kind]}


TEXT_PART = _part("text", _TEXT)
_MEDIA_PARTS = [
    _part("image_url", {"type": "object", "properties": {"url": {**_TEXT, "format": "uri"}}, "required": ["url"]}),
    _part("input_audio", {"type": "object", "properties": {"data": _TEXT, "format": _TEXT}, "required": ["data"]}),
    _part("file", {"type": "object", "properties": {"file_data": _TEXT, "file_id": _TEXT, "filename": _TEXT}}),
]
#: A content of texts only, for the OpenAPI document.
TEXTS = ({"type": "string"}, {"type": "array", "items": TEXT_PART})


class Content(fields.Field[str | list[dict[str, Any]]]):
    """A text, or a list of parts `{"type": "text", "text": ...}`, which are joined.

    A part of an answer may have the type `refusal`, with its text in that field, or `thinking`, which is left out:
    models don't read each other's thoughts as text. With an image, audio or a file among them, parts stay parts.
    """

    def __init__(self, **kwargs: Any) -> None:
        parts = {"type": "array", "items": {"anyOf": [TEXT_PART, *_MEDIA_PARTS]}}
        super().__init__(**shaped(kwargs, TEXTS[0], parts))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Any:
        if not isinstance(value, list):
            return as_text(value)
        role = data.get("role") if data is not None else None
        found: list[dict[str, Any]] = []
        for index, part in enumerate(value):
            give_way(index)
            kind = part.get("type") if isinstance(part, dict) else None
            if role == "assistant" and kind == "thinking":
                continue
            if isinstance(kind, str) and kind in MEDIA and role in _MEDIA_ROLES:
                found.append(_medium(kind, part))
            elif kind in ("text", "refusal") and kind in part:
                found.append({"type": "text", "text": "" if part[kind] is None else as_text(part[kind])})
            else:
                raise ValidationError(f"Got the part {shown(part)}; allowed: {_ALLOWED}.")
        if all(part["type"] == "text" for part in found):
            return "".join(part["text"] for part in found)
        return found


def _medium(kind: str, part: Mapping[str, Any]) -> dict[str, Any]:
    """A part that is no text, as it was given. Raises: ValidationError."""
    names = MEDIA[kind]
    about = {"url": part[kind]} if kind == "image_url" and isinstance(part.get(kind), str) else part.get(kind)
    if not isinstance(about, dict) or not any(isinstance(about.get(name), str) for name in names):
        raise ValidationError(f"Got the part {shown(part)}; {kind} must be an object with {' or '.join(names)}.")
    if too_deep(about):
        raise ValidationError(f"Is nested deeper than {MAX_DEPTH} levels.")
    for text in about.values():
        if isinstance(text, str):
            as_text(text)
    if kind == "image_url" and not about["url"].startswith(_SCHEMES):
        raise ValidationError(f"Got the url {shown(about['url'])}; must be a data URL or an http or https address.")
    return {"type": kind, kind: about}
