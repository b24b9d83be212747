"""Lark, as its documents write it: rules in small letters, terminals in capitals, `%import common` and `%ignore`."""

from __future__ import annotations

from gateway.grammars import regex
from gateway.grammars.fuel import Refused
from gateway.grammars.grammar import Grammar
from gateway.grammars.notations.expressions import Choice, Expression, Name, Repeat, Sequence, grammar_from, repeated
from gateway.grammars.notations.tokens import Cursor, Token, tokens, unescaped
from gateway.grammars.patterns import matching
from gateway.grammars.regex import Regex

_KINDS = {
    "skip": r"[ \t\r]+|\n(?=[ \t\r\n]*(?:\||//|\n|$))|//[^\n]*|\#[^\n]*",
    "line": r"\n[ \t\r\n]*",
    "text": r'"(?:[^"\\\n]|\\.)*"i?',
    "pattern": r"/(?![/*])(?:[^/\\\n]|\\.)+/[imslux]*",
    "directive": r"%[a-z_]+",
    "arrow": r"->[ ]*[a-z_0-9]+",
    "name": r"[?!]*[a-zA-Z_][a-zA-Z0-9_]*",
    "number": r"[0-9]+",
    "sign": r"\.\.|[|()\[\]*+?~.:{},]",
}
#: What `%import common` knows.
_COMMON = {
    "DIGIT": "[0-9]",
    "HEXDIGIT": "[0-9a-fA-F]",
    "INT": "[0-9]+",
    "SIGNED_INT": "[+-]?[0-9]+",
    "DECIMAL": r"[0-9]+\.[0-9]*|\.[0-9]+",
    "FLOAT": r"[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "SIGNED_FLOAT": r"[+-]?(?:[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)",
    "NUMBER": r"[0-9]+|[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?",
    "SIGNED_NUMBER": r"[+-]?(?:[0-9]+|[0-9]+[eE][+-]?[0-9]+|(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)",
    "ESCAPED_STRING": r'"(?:[^"\\\n]|\\.)*"',
    "LCASE_LETTER": "[a-z]",
    "UCASE_LETTER": "[A-Z]",
    "LETTER": "[a-zA-Z]",
    "WORD": "[a-zA-Z]+",
    "CNAME": "[a-zA-Z_][a-zA-Z0-9_]*",
    "WS_INLINE": r"[ \t]+",
    "WS": r"[ \t\f\r\n]+",
    "CR": r"\r",
    "LF": r"\n",
    "NEWLINE": r"(?:\r?\n)+",
}
_DEPTH = 60


def read_lark(text: str) -> Grammar:
    """Raises: Refused."""
    return _Reader(Cursor(tokens(text, _KINDS))).grammar()


class _Reader:
    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.named: dict[str, Expression] = {}
        self.ignored: list[Expression] = []

    def grammar(self) -> Grammar:
        """The grammar of `start`."""
        cursor = self.cursor
        while cursor.peek().kind != "end":
            if cursor.peek().kind == "line":
                cursor.take()
            elif cursor.peek().kind == "directive":
                self._directive(cursor.take())
            else:
                self._rule()
        ignored: Regex | None = None
        if self.ignored:
            named = {**self.named, "%ignore": Repeat(Choice(tuple(self.ignored)), 0, None)}
            ignored = grammar_from(named, "%ignore").regular
            if ignored is None:
                raise Refused("What is ignored must be terminals.", keyword="%ignore")
        return grammar_from(self.named, "start", ignored)

    def _directive(self, token: Token) -> None:
        cursor = self.cursor
        if token.text == "%ignore":
            self.ignored.append(self._choice(0))
        elif token.text == "%import":
            library = cursor.take().text
            cursor.expect(".")
            name = cursor.take()
            if library != "common" or name.text not in _COMMON:
                known = ", ".join(sorted(_COMMON))
                raise Refused(
                    f"Can't import {library}.{name.text}; allowed: common. and one of {known}.",
                    place=f"line {token.line}",
                )
            given = cursor.take().text.removeprefix("->").strip() if cursor.peek().kind == "arrow" else name.text
            self.named[given] = matching(_COMMON[name.text], whole=True)
        elif token.text == "%llguidance":
            raise Refused("Options of llguidance can't be done.", place=f"line {token.line}")
        else:
            raise Refused(f"{token.text} can't be done; allowed: %import, %ignore.", place=f"line {token.line}")

    def _rule(self) -> None:
        cursor = self.cursor
        name = cursor.take()
        if name.kind != "name":
            raise Refused(f"Got {name.text[:20]!r}; expected NAME: …", place=f"line {name.line}")
        if cursor.took("."):
            cursor.take()
        cursor.expect(":")
        plain = name.text.lstrip("?!")
        if plain in self.named:
            raise Refused(f"{plain!r} is there twice.", place=f"line {name.line}")
        self.named[plain] = self._choice(0)
        if cursor.peek().kind not in ("line", "end"):
            raise cursor.unexpected("expected the end of the rule")

    def _choice(self, depth: int) -> Expression:
        if depth > _DEPTH:
            raise self.cursor.unexpected("groups are nested too deeply")
        ways = [self._sequence(depth)]
        while self.cursor.took("|"):
            ways.append(self._sequence(depth))
        return ways[0] if len(ways) == 1 else Choice(tuple(ways))

    def _sequence(self, depth: int) -> Expression:
        cursor, parts = self.cursor, list[Expression]()
        while True:
            token = cursor.peek()
            if token.kind == "arrow":
                cursor.take()
                continue
            if token.kind == "line" and depth:
                cursor.take()
                continue
            if token.kind in ("line", "end") or (token.kind == "sign" and token.text in "|)]"):
                break
            part = self._one(depth)
            while (times := self._times()) is not None:
                part = repeated(part, *times, token.line)
            parts.append(part)
        return parts[0] if len(parts) == 1 else Sequence(tuple(parts))

    def _one(self, depth: int) -> Expression:
        cursor = self.cursor
        if cursor.took("("):
            found = self._choice(depth + 1)
            cursor.expect(")")
            return found
        if cursor.took("["):
            found = self._choice(depth + 1)
            cursor.expect("]")
            return Repeat(found, 0, 1)
        token = cursor.peek()
        if token.kind == "text":
            return self._text(cursor.take())
        if token.kind == "pattern":
            return self._pattern(cursor.take())
        if token.kind == "name":
            cursor.take()
            if cursor.peek().text == "{" and not cursor.peek(1).kind == "number":
                raise cursor.unexpected("templates can't be done")
            return Name(token.text, token.line)
        raise cursor.unexpected("expected a text, a pattern, a name or a group")

    def _text(self, token: Token) -> Regex:
        ignores_case = token.text.endswith("i")
        text = unescaped(token.text[1 : -2 if ignores_case else -1], token.line)
        end = self.cursor
        if end.took(".."):
            last = end.take()
            high = unescaped(last.text[1:-1], last.line) if last.kind == "text" else ""
            if len(text) != 1 or len(high) != 1 or text > high:
                raise Refused(f"{token.text}..{last.text[:20]} is no range.", place=f"line {token.line}")
            return regex.chars([(ord(text), ord(high))])
        if not ignores_case:
            return regex.literal(text)
        return regex.cat(*(regex.one_of(char.lower() + char.upper()) for char in text))

    def _pattern(self, token: Token) -> Regex:
        pattern, _, flags = token.text[1:].rpartition("/")
        if flags.strip("su"):
            raise Refused(f"The flags {flags!r} can't be done; allowed: s.", place=f"line {token.line}")
        try:
            return matching(f"(?s){pattern}" if "s" in flags else pattern, whole=True)
        except Refused as error:
            raise Refused(error.text, place=f"line {token.line}") from error

    def _times(self) -> tuple[int, int | None] | None:
        cursor = self.cursor
        for sign, times in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if cursor.took(sign):
                return times
        if cursor.took("~"):
            least = self._number()
            return least, self._number() if cursor.took("..") else least
        if not cursor.took("{"):
            return None
        low = self._number() if cursor.peek().kind == "number" else 0
        high: int | None = low
        if cursor.took(","):
            high = self._number() if cursor.peek().kind == "number" else None
        cursor.expect("}")
        return low, high

    def _number(self) -> int:
        token = self.cursor.peek()
        if token.kind != "number" or len(token.text) > 9:
            raise self.cursor.unexpected("expected a number")
        return int(self.cursor.take().text)
