"""The prompt of a completion: a text, the ids of its tokens, or several of either. Knows no tokenizer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from marshmallow import ValidationError, fields

from schemas.base.fields import as_text, shaped, shown

#: Prompts in one completion request.
MAX_PROMPTS = 64
#: Token ids that a JSON number may name; the model's vocabulary is checked by its engine.
MAX_TOKEN_ID = 2**31 - 1

#: A text, the token ids of one text, or a list of either.
Prompts = str | list[str] | list[int] | list[list[int]]


class Prompt(fields.Field[Prompts]):
    """One prompt, or a list of them. With `empty`, a text may be empty: the answer is then a beginning."""

    def __init__(self, *, empty: bool = False, **kwargs: Any) -> None:
        self._empty = empty
        text = {"type": "string", **({} if empty else {"minLength": 1})}
        ids = {"type": "array", "items": {"type": "integer", "minimum": 0, "maximum": MAX_TOKEN_ID}, "minItems": 1}
        several = [{"type": "array", "items": one, "minItems": 1, "maxItems": MAX_PROMPTS} for one in (text, ids)]
        super().__init__(**shaped(kwargs, text, ids, *several))

    def _deserialize(self, value: Any, attr: str | None, data: Mapping[str, Any] | None, **kwargs: Any) -> Prompts:
        if isinstance(value, str):
            return self._text(value)
        if not isinstance(value, list) or not value:
            what = f"a text, a list of token ids, or a list of 1 to {MAX_PROMPTS} of either"
            raise ValidationError(f"Got {shown(value)}; must be {what}.")
        if type(value[0]) is int:
            return token_ids(value)
        if len(value) > MAX_PROMPTS:
            raise ValidationError(f"Got {len(value)} prompts; at most {MAX_PROMPTS} are allowed. Send several.")
        read: Callable[[Any], Any] = token_ids if isinstance(value[0], list) else self._text
        return [at_index(index, read, item) for index, item in enumerate(value)]

    def _text(self, value: Any) -> str:
        if not as_text(value) and not self._empty:
            raise ValidationError("Must not be empty.")
        return str(value)


def at_index(index: int, read: Callable[[Any], Any], item: Any) -> Any:
    """Read one item of a list. A mistake in it names its index."""
    try:
        return read(item)
    except ValidationError as error:
        raise ValidationError({index: error.messages}) from error


def token_ids(value: Any) -> list[int]:
    """Raises: ValidationError, naming the first that is no token id."""
    if not isinstance(value, list) or not value:
        raise ValidationError(f"Got {shown(value)}; must be a list of token ids.")
    for number in value:
        if type(number) is not int or not 0 <= number <= MAX_TOKEN_ID:
            raise ValidationError(f"Holds {shown(number)}; a token id is a whole number from 0 to {MAX_TOKEN_ID}.")
    return value
