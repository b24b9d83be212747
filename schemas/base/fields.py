"""Strict marshmallow fields: a JSON number is a number, a boolean a boolean, and text is valid Unicode."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

import marshmallow
from marshmallow import ValidationError, fields, validate

from schemas.base.bounds import MAX_ERRORS, give_way

#: The OpenAPI document shows bounds of lists up to this.
MAX_SHOWN = 1_000
#: How deeply a JSON value that we keep may be nested.
MAX_DEPTH = 64


class Boolean(fields.Boolean):
    """`true` or `false`, not 1 or "yes"."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> bool:
        if not isinstance(value, bool):
            raise ValidationError(f"Got {shown(value)}; must be true or false.")
        return value


class Number(fields.Float):
    """A finite JSON number from `low` to `high`."""

    def __init__(self, low: float, high: float, **kwargs: Any) -> None:
        super().__init__(**_limited(low, high, kwargs))
        self.low, self.high = low, high

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not self.low <= value <= self.high:
            raise ValidationError(f"Got {shown(value)}; must be a number from {self.low} to {self.high}.")
        return float(value)


class Integer(fields.Integer):
    """A whole JSON number from `low` to `high`."""

    def __init__(self, low: int, high: int, **kwargs: Any) -> None:
        super().__init__(**_limited(low, high, kwargs))
        self.low, self.high = low, high

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not self.low <= value <= self.high:
            raise ValidationError(f"Got {shown(value)}; must be a whole number from {self.low} to {self.high}.")
        return value


class Text(fields.String):
    """Text that can be written as UTF-8."""

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> str:
        return as_text(value)


class Moment(fields.Field[datetime]):
    """A date or a time in ISO 8601, as an aware `datetime`; UTC without an offset."""

    def __init__(self, **kwargs: Any) -> None:
        metadata = {
            "type": "string",
            "format": "date-time",
            "description": "ISO 8601, for example 2026-01-31T12:00:00Z",
        }
        super().__init__(**{**kwargs, "metadata": {**metadata, **kwargs.get("metadata", {})}})

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> datetime:
        try:
            moment = datetime.fromisoformat(value)
            moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
            moment.timestamp()
        except (TypeError, ValueError, OverflowError) as error:
            raise ValidationError(
                f"Got {shown(value)}; must be a date or time in ISO 8601, for example 2026-01-31T12:00:00Z."
            ) from error
        return moment


class Items(fields.List[Any]):
    """A list of at most `most` items. It stops after `MAX_ERRORS` wrong ones."""

    def __init__(self, inner: fields.Field[Any], *, most: int, least: int = 0, **kwargs: Any) -> None:
        # Bounds that are only for safety are left out: schema tools would make examples of that size.
        limits = {**({"minItems": least} if least else {}), **({"maxItems": most} if most <= MAX_SHOWN else {})}
        super().__init__(inner, **{**kwargs, "metadata": {**limits, **kwargs.get("metadata", {})}})
        self.most, self.least = most, least

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> list[Any]:
        if not isinstance(value, list):
            raise ValidationError(f"Got {shown(value)}; must be a list.")
        if not self.least <= len(value) <= self.most:
            raise ValidationError(f"Got {len(value)} items; must be a list of {self.least} to {self.most}.")
        found, errors = [], {}
        for index, item in enumerate(value):
            give_way(index)
            try:
                found.append(self.inner.deserialize(item, **kwargs))
            except ValidationError as error:
                errors[index] = error.messages
                if len(errors) == MAX_ERRORS:
                    break
        if errors:
            raise ValidationError(errors)
        return found


class Word(Text):
    """One of a few words."""

    def __init__(self, words: tuple[str, ...], **kwargs: Any) -> None:
        text = f"Got {{input!r}}; allowed: {', '.join(words)}."
        super().__init__(validate=validate.OneOf(words, error=text), **kwargs)


def _limited(low: float, high: float, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Arguments of a number, whose limits the OpenAPI document shows."""
    return _optional({**kwargs, "metadata": {"minimum": low, "maximum": high, **kwargs.get("metadata", {})}})


def _optional(kwargs: dict[str, Any]) -> dict[str, Any]:
    """An optional number may be null, which means that it is not given."""
    return kwargs if kwargs.get("required") else {"allow_none": True, "load_default": None, **kwargs}


class StrictSchema(marshmallow.Schema):
    """Refuses fields that it does not know, naming those that it does."""

    class Meta:
        unknown = marshmallow.RAISE

    @marshmallow.pre_load
    def _bounded(self, data: Any, **_: Any) -> Any:
        """Raises: ValidationError if there are too many unknown fields."""
        if isinstance(data, Mapping) and len(data) > len(self.fields) + MAX_ERRORS:
            known = ", ".join(sorted(field.data_key or name for name, field in self.fields.items()))
            raise ValidationError(f"Has {len(data)} fields, most of them unknown. Allowed: {known}.")
        return data

    def handle_error(self, error: ValidationError, data: Any, **kwargs: Any) -> None:
        """Add the allowed fields to the error for an unknown one."""
        if not isinstance(error.messages, dict):
            return
        allowed = ", ".join(sorted(field.data_key or name for name, field in self.fields.items()))
        for name, texts in error.messages.items():
            if texts == [self.error_messages["unknown"]]:
                error.messages[name] = [f"Unknown field. Allowed: {allowed}."]


def as_text(value: Any) -> str:
    """The value, if it is text that can be written as UTF-8. Raises: ValidationError."""
    if not isinstance(value, str):
        raise ValidationError(f"Got {shown(value)}; must be text.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValidationError("Holds half of a surrogate pair, which is not valid Unicode text.") from error
    return value


def leaves(messages: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], list[str]]]:
    """marshmallow's nested messages as (path, texts), one for each field that is wrong."""
    if not isinstance(messages, Mapping):
        yield path, [str(text) for text in messages]
        return
    for name, inner in messages.items():
        yield from leaves(inner, path if name == "_schema" else (*path, name))


def shaped(kwargs: Mapping[str, Any], *shapes: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a field whose JSON may have several shapes, for the OpenAPI document."""
    null = [{"type": "null"}] if kwargs.get("allow_none") else []
    return {**kwargs, "metadata": {"anyOf": [*shapes, *null], **kwargs.get("metadata", {})}}


def too_deep(value: Any) -> bool:
    """Whether lists and objects in it are nested deeper than `MAX_DEPTH`."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not level:
            return False
    return True


def shown(value: Any) -> str:
    """A short form of any JSON value, for an error's text."""
    if isinstance(value, int) and abs(value) >= 10**20:
        return "a number of more than 20 digits"
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
