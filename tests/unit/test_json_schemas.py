"""Each text of a schema's grammar is valid by the schema, or the schema is refused."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import jsonschema
import pytest

from gateway.grammars.fuel import Refused, TooLarge
from gateway.grammars.json_schema import json_value
from gateway.grammars.quotient import accepts, rest
from gateway.grammars.trial import check
from tests.schemas_300 import BY_HAND, HOSTILE, REAL, REFUSED, SCHEMAS
from tests.sentences import Sentences

CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def require_valid(schema: Any, *, seed: int, texts: int) -> None:
    """Draw texts of a schema's grammar, validate them, cut them, and go on from there."""
    grammar = json_value(schema)
    check(grammar)
    validator = jsonschema.Draft202012Validator(schema, format_checker=CHECKER)
    sentences = Sentences(grammar, seed)
    for _ in range(texts):
        text = sentences.draw()
        assert not list(validator.iter_errors(json.loads(text))), text
        cut = sentences.random.randint(0, len(text))
        left = rest(grammar, text[:cut])
        assert left is not None and accepts(left, text[cut:]), (text, cut)


@pytest.mark.parametrize("number", range(len(BY_HAND)))
def test_what_follows_a_schemas_grammar_is_valid(number: int) -> None:
    require_valid(BY_HAND[number], seed=number, texts=6)


def valid_or_refused(number: int, texts: int) -> bool:
    """Whether it was not refused."""
    try:
        require_valid(SCHEMAS[number], seed=number, texts=texts)
    except Refused as error:
        assert error.keyword or isinstance(error, TooLarge) or error.text.startswith("No JSON text"), error
        return False
    return True


def test_a_sample_of_300_schemas_is_valid_or_refused() -> None:
    first = len(BY_HAND) + len(REAL)
    done = [valid_or_refused(number, 2) for number in [*range(len(BY_HAND), first), *range(first, 300, 29)]]
    assert sum(done) > 0.7 * len(done)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(6))
def test_300_schemas_are_valid_or_refused(block: int) -> None:
    done = [valid_or_refused(number, 8) for number in range(50 * block, 50 * block + 50)]
    assert sum(done) > 0.7 * len(done)


@pytest.mark.parametrize(("schema", "keyword", "place"), REFUSED)
def test_what_can_not_be_done_is_refused_with_its_keyword(schema: Any, keyword: str, place: str) -> None:
    with pytest.raises(Refused) as error:
        json_value(schema)
    assert (error.value.keyword, error.value.place) == (keyword, place), error.value


@pytest.mark.parametrize(
    ("schema", "valid", "invalid"),
    [
        ({"type": "integer", "minimum": -3, "exclusiveMaximum": 120}, "-3 0 119 42", "-4 120 007 1.5"),
        ({"type": "number", "exclusiveMinimum": 0.5, "maximum": 2}, "0.51 1 2 2.0 1.999", "0.5 2.01 0 3"),
        ({"type": "integer", "multipleOf": 4}, "0 -8 1004", "2 -3 1002"),
        ({"enum": [1, "a", None, {"b": [True]}]}, '1 "a" null', '2 "b" true'),
        ({"type": "string", "maxLength": 3, "pattern": "^a"}, '"a" "abc"', '"b" "abcd"'),
        ({"not": {"type": "string"}}, "1 null []", '"a"'),
        ({"type": ["boolean", "null"]}, "true false null", '0 ""'),
    ],
)
def test_values_are_told_apart(schema: Any, valid: str, invalid: str) -> None:
    grammar = json_value(schema)
    assert [text for text in valid.split() if not accepts(grammar, text)] == []
    assert [text for text in invalid.split() if accepts(grammar, text)] == []


def test_members_come_in_order_and_each_optional_one_or_not() -> None:
    schema = {"properties": {"a": {"type": "null"}, "b": {"type": "null"}, "c": {"type": "null"}}, "required": ["b"]}
    grammar = json_value({"type": "object", **schema})
    whole = ('{"b":null}', '{"a": null, "b": null}', '{"a":null,"b":null,"c":null}', '{\n  "b": null,\n  "c": null\n}')
    assert all(accepts(grammar, text) for text in whole)
    others = ("{}", '{"a":null}', '{"b":null,"a":null}', '{"b":null,"b":null}', '{"b":null,"d":null}', '{"b":null,}')
    assert not any(accepts(grammar, text) for text in others)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_schema_is_taken_or_refused_with_bounded_work(name: str) -> None:
    """What it costs is counted in steps, so that this ends."""
    try:
        check(json_value(HOSTILE[name]))
    except Refused as error:
        assert error.text


@pytest.mark.parametrize("divisor", [2, 5, 20, 25, 100])
@pytest.mark.parametrize(("low", "high"), [(-37, 258), (99, 203), (-250, -13)])
def test_multiples_within_bounds_are_told_by_their_last_digits(divisor: int, low: int, high: int) -> None:
    grammar = json_value({"type": "integer", "multipleOf": divisor, "minimum": low, "maximum": high})
    found = {n for n in range(-300, 300) if accepts(grammar, str(n))}
    assert found == {n for n in range(low, high + 1) if n % divisor == 0}
    assert not any(accepts(grammar, text) for text in ("00", "010", "0100", "-0"))


def test_schemas_that_follow_from_others_are_not_taken_for_each_other() -> None:
    """They were known by the address of what had been forgotten."""
    names = [f"n{number}" for number in range(12)]
    members = {name: {"type": "null"} for name in names}
    for first, second in pairwise(names):
        one = {"type": "object", "properties": members, "required": [first], "dependentRequired": {first: [second]}}
        grammar = json_value({"type": "array", "items": {**one, "additionalProperties": False}})
        assert accepts(grammar, f'[{{"{first}":null,"{second}":null}}]')
        assert not accepts(grammar, f'[{{"{first}":null}}]')
