"""Numbers between bounds as regular languages of their digits.

Bounds of `number` are compared as decimals, and hold for the floats that readers make of them: where a bound itself is
excluded, no more digits are allowed than a float tells apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any

from gateway.grammars import regex
from gateway.grammars.fuel import Refused
from gateway.grammars.json_schema.json_texts import DIGIT, FRACTION_DIGITS, INTEGER, INTEGER_DIGITS, NUMBER
from gateway.grammars.regex import EMPTY, NOTHING, Regex, alt, both, cat, literal, rep

#: Digits that every float tells apart.
_EXACT = 15
#: Its last two digits say whether one of its divisors divides a number.
_DECIMAL = 100
#: Most digits of a bound, and the largest divisor.
_MAX_DIGITS, _MAX_DIVISOR = 40, 4_096
_LARGEST = 10**INTEGER_DIGITS - 1
_MINUS, _POINT = literal("-"), literal(".")


@dataclass(frozen=True)
class Bounds:
    """Where a number must lie. None: no bound."""

    low: Decimal | None = None
    high: Decimal | None = None
    open_low: bool = False
    open_high: bool = False

    @property
    def free(self) -> bool:
        """Whether there is no bound."""
        return self.low is None and self.high is None

    def negated(self) -> Bounds:
        """The bounds of the number with the other sign."""
        low = None if self.high is None else -self.high
        high = None if self.low is None else -self.low
        return Bounds(low, high, self.open_high, self.open_low)


def bounds_of(schema: dict[str, Any]) -> Bounds:
    """What minimum, maximum and their exclusive kin say together. Raises: Refused."""
    found = Bounds()
    for keyword in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        value = schema.get(keyword)
        if value is None:
            continue
        number, is_open = decimal(value, keyword), keyword.startswith("exclusive")
        if keyword.endswith("inimum") and (found.low is None or (number, is_open) > (found.low, found.open_low)):
            found = replace(found, low=number, open_low=is_open)
        if keyword.endswith("aximum") and (found.high is None or (-number, is_open) > (-found.high, found.open_high)):
            found = replace(found, high=number, open_high=is_open)
    return found


def decimal(value: Any, keyword: str) -> Decimal:
    """A number of a schema. Raises: Refused."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise Refused(f"Got {value!r:.40}; must be a number.", keyword=keyword)
    if abs(value) > 10.0**_MAX_DIGITS:
        return Decimal(10**_MAX_DIGITS).copy_sign(Decimal(1 if value > 0 else -1))
    try:
        number = Decimal(repr(value))
    except InvalidOperation as error:
        raise Refused(f"Got {value!r:.40}; must be a finite number.", keyword=keyword) from error
    if number and number.adjusted() < -_MAX_DIGITS:
        raise Refused(f"Got {value!r:.40}; it has too many digits.", keyword=keyword)
    return number


def integers(bounds: Bounds, multiple_of: list[Any]) -> Regex:
    """The whole numbers within bounds. Raises: Refused."""
    if len(multiple_of) == 1 and _DECIMAL % _divisor(multiple_of[0]) == 0:
        return _signed_integers(bounds, _divisor(multiple_of[0]))
    found = INTEGER if bounds.free else _signed_integers(bounds)
    for value in multiple_of:
        found = both(found, cat(rep(_MINUS, 0, 1), regex.multiple(_divisor(value))))
    return found


def numbers(bounds: Bounds, multiple_of: list[Any]) -> Regex:
    """Numbers within bounds. Raises: Refused."""
    if multiple_of:
        return _multiples(bounds, multiple_of)
    if bounds.free:
        return NUMBER
    above, below = _part(bounds), _part(bounds.negated())
    return alt(above, cat(_MINUS, below))


def _signed_integers(bounds: Bounds, of: int = 1) -> Regex:
    """Those that `of` divides, a divisor of 100."""
    low = None if bounds.low is None else _up(bounds.low, is_open=bounds.open_low)
    high = None if bounds.high is None else -_up(-bounds.high, is_open=bounds.open_high)
    least = min(-_LARGEST, high) if low is None and high is not None else -_LARGEST if low is None else low
    most = max(_LARGEST, least) if high is None else high
    if low is None and least == high:
        least = 10 * least
    if high is None and most == low:
        most = 10 * most
    if least > most:
        return NOTHING
    above = _every(of, max(0, least), most) if most >= 0 else NOTHING
    below = cat(_MINUS, _every(of, max(1, -most), -least)) if least < 0 else NOTHING
    return alt(above, below)


def _every(of: int, low: int, high: int) -> Regex:
    """Digits of the numbers from `low` to `high` that `of` divides: known by their last digits, if it divides 100."""
    if of == 1:
        return _naturals(low, high)
    places = 1 if 10 % of == 0 else 2
    base = 10 if places == 1 else _DECIMAL
    short: list[Regex] = []
    ends: dict[tuple[int, int], list[Regex]] = {}
    for end in range(0, base, of):
        first, last = max(0, -((end - low) // base)), (high - end) // base
        if first == 0 and last >= 0:
            short.append(literal(str(end)))
            first = 1
        if first <= last:
            ends.setdefault((first, last), []).append(literal(f"{end:0{places}}"))
    return alt(*short, *(cat(_naturals(*between), alt(*each)) for between, each in ends.items()))


def _up(number: Decimal, *, is_open: bool) -> int:
    """The least whole number that is not below it, or above it."""
    floor = int(number.to_integral_value(rounding="ROUND_FLOOR"))
    return floor + 1 if is_open or floor != number else floor


def _naturals(low: int, high: int) -> Regex:
    """Digits of the whole numbers from `low` to `high`, without zeros in front."""
    ways = []
    for length in range(len(str(low)), len(str(high)) + 1):
        first, last = max(low, 10 ** (length - 1) if length > 1 else 0), min(high, 10**length - 1)
        if first <= last:
            ways.append(_between(str(first), str(last)))
    return alt(*ways)


def _between(low: str, high: str) -> Regex:
    """Digits as many as these, between them."""
    if low == high:
        return literal(low)
    if not set(low) - {"0"} and not set(high) - {"9"}:
        return rep(DIGIT, len(low), len(low))
    if low[0] == high[0]:
        return cat(literal(low[0]), _between(low[1:], high[1:]))
    more = len(low) - 1
    ways = [cat(literal(low[0]), _between(low[1:], "9" * more)) if more else literal(low[0])]
    if int(high[0]) - int(low[0]) > 1:
        ways.append(cat(_digits(int(low[0]) + 1, int(high[0]) - 1), rep(DIGIT, more, more)))
    ways.append(cat(literal(high[0]), _between("0" * more, high[1:])) if more else literal(high[0]))
    return alt(*ways)


def _digits(low: int, high: int) -> Regex:
    return regex.chars([(48 + low, 48 + high)]) if low <= high else NOTHING


def _part(bounds: Bounds) -> Regex:
    """Numbers without a sign that lie within bounds."""
    low = bounds.low if bounds.low is not None and bounds.low >= 0 else Decimal(0)
    open_low = bounds.open_low and low == bounds.low
    high = bounds.high
    if high is not None and (high < low or (high == low and (open_low or bounds.open_high))):
        return NOTHING
    first, first_digits = _split(low)
    any_fraction = _fraction(rep(DIGIT, 1, FRACTION_DIGITS), whole=True)
    if high is None:
        most = max(_LARGEST, 10 * first)
        border = cat(_naturals(first, first), _above(first, first_digits, is_open=open_low))
        return alt(border, cat(_naturals(first + 1, most), any_fraction))
    last, last_digits = _split(high)
    if first == last:
        above = _above(first, first_digits, is_open=open_low)
        return cat(_naturals(first, first), both(above, _below(last, last_digits, is_open=bounds.open_high)))
    ways = [
        cat(_naturals(first, first), _above(first, first_digits, is_open=open_low)),
        cat(_naturals(last, last), _below(last, last_digits, is_open=bounds.open_high)),
    ]
    if last - first > 1:
        ways.append(cat(_naturals(first + 1, last - 1), any_fraction))
    return alt(*ways)


def _split(number: Decimal) -> tuple[int, str]:
    """Its whole part, and the digits behind the point."""
    text = format(number, "f")
    whole, _, fraction = text.partition(".")
    return int(whole), fraction.rstrip("0")


def _fraction(digits: Regex, *, whole: bool) -> Regex:
    """A point and digits; `whole`: or nothing."""
    some = cat(_POINT, digits)
    return alt(EMPTY, some) if whole else some


def _room(whole: int, digits: str, *, is_open: bool) -> int:
    """How many digits may follow those of a bound."""
    if not is_open:
        return FRACTION_DIGITS
    room = _EXACT - len(str(whole)) - len(digits) if whole or digits else FRACTION_DIGITS
    if room < 0:
        raise Refused("Has too many digits to tell its neighbours from it; use fewer, or one that is not exclusive.")
    return room


def _above(whole: int, digits: str, *, is_open: bool) -> Regex:
    """Fractions that are not below `digits`, or above."""
    room = _room(whole, digits, is_open=is_open)

    def behind(left: str) -> Regex:
        if not left:
            if not is_open:
                return rep(DIGIT, 0, room)
            return alt(*(cat(literal("0" * n), _digits(1, 9), rep(DIGIT, 0, room - n - 1)) for n in range(room)))
        greater = cat(_digits(int(left[0]) + 1, 9), rep(DIGIT, 0, room + len(left) - 1))
        return alt(greater, cat(literal(left[0]), behind(left[1:])))

    if not digits and not is_open:
        return _fraction(rep(DIGIT, 1, room), whole=True)
    return _fraction(behind(digits), whole=False)


def _below(whole: int, digits: str, *, is_open: bool) -> Regex:
    """Fractions that are not above `digits`, or below."""
    room = _room(whole, digits, is_open=is_open)

    def behind(left: str, *, first: bool) -> Regex:
        if not left:
            return NOTHING if is_open else rep(literal("0"), int(first), room)
        less = cat(_digits(0, int(left[0]) - 1), rep(DIGIT, 0, room + len(left) - 1))
        return alt(NOTHING if first else EMPTY, less, cat(literal(left[0]), behind(left[1:], first=False)))

    return _fraction(behind(digits, first=True), whole=bool(digits) or not is_open)


def _divisor(value: Any) -> int:
    number = decimal(value, "multipleOf")
    if number <= 0:
        raise Refused(f"Got {value!r:.40}; must be above 0.", keyword="multipleOf")
    if number != int(number) or number > _MAX_DIVISOR:
        text = f"Got {value!r:.40}; whole numbers from 1 to {_MAX_DIVISOR} can be done, and halves, quarters, eighths."
        raise Refused(text, keyword="multipleOf")
    return int(number)


def _multiples(bounds: Bounds, multiple_of: list[Any]) -> Regex:
    """Numbers that divisors divide: whole ones, and parts that floats have exactly."""
    parts = [Fraction(decimal(value, "multipleOf")) for value in multiple_of]
    if any(0 < part < 1 and part in (Fraction(1, 2), Fraction(1, 4), Fraction(1, 8)) for part in parts):
        if len(parts) > 1:
            raise Refused("Several can't be done, unless all are whole numbers.", keyword="multipleOf")
        step = parts[0]
        ways = [format(Decimal(n) * Decimal(step.numerator) / step.denominator, "f")[2:] for n in range(int(1 / step))]
        tails = alt(EMPTY, *(cat(_POINT, literal(each)) for each in ways if each))
        found = cat(INTEGER, tails)
        return found if bounds.free else both(numbers(bounds, []), found)
    return integers(bounds, multiple_of)
