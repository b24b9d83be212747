"""What the answer to a request must look like from its first token on: a grammar, and what the prompt begins of it.

Grammars are made of characters. A control token has none, so where a call begins with one, it is put behind the prompt
as if the model had written it. Calls that must be made have a form that grammars can write (`{"name": ...}`), also for
models whose own form they can't.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.errors import InvalidRequest
from gateway.grammars import regex
from gateway.grammars.forms import form_of, grammar_of
from gateway.grammars.grammar import Grammar, either, literal, of_regex, repeated, sequence, text_without
from gateway.grammars.tools import any_object, arguments_grammar, guaranteed, may_call
from gateway.store.codec import dumps
from schemas.base.tool_choice import is_forced
from workers.answers.formats import CALL_FORMATS, CallFormat
from workers.answers.model_formats import ModelFormats
from workers.answers.parser import CONTROL

#: What reads calls that have no marker: the form of models whose own can't be written by a grammar.
BARE = CALL_FORMATS["llama"]
#: Formats whose calls a grammar can write, behind the first of their markers.
_MARKED = ("hermes", "qwen-xml", "glm", "mistral", "deepseek", "kimi")
_SPACE = either(literal(""), literal("\n"), literal("\n\n"))


@dataclass(frozen=True)
class Plan:
    """How an answer is to be made and read."""

    grammar: Grammar | None = None
    #: How its calls are read.
    calls: CallFormat | None = None
    #: What stands behind the prompt: texts, and control tokens by name (marked with `CONTROL`).
    prefix: tuple[str, ...] = ()
    #: The prompt has begun the reasoning.
    opened: bool = False


def plan_of(request: Mapping[str, Any], answers: ModelFormats, prompt: Sequence[int]) -> Plan:
    """The plan for a request. Raises: InvalidRequest if it can't be guaranteed."""
    form = form_of(request)
    formed = grammar_of(form) if form else None
    if "messages" not in request:
        return Plan(formed)
    return replace(_of_chat(request, answers, prompt, formed), opened=answers.opens_reasoning(prompt))


def _of_chat(request: Mapping[str, Any], answers: ModelFormats, prompt: Sequence[int], formed: Grammar | None) -> Plan:
    tools = may_call(request)
    if tools and is_forced(request.get("tool_choice")):
        return _forced(request, answers, prompt)
    if formed is None and not guaranteed(request):
        return Plan(calls=answers.calls)
    thought, prefix = _thought(answers, prompt)
    free = _free(request, answers, formed, tools) if tools else formed
    assert free is not None
    return Plan(_after(thought, free), answers.calls, prefix)


def _forced(request: Mapping[str, Any], answers: ModelFormats, prompt: Sequence[int]) -> Plan:
    own, functions = answers.calls, guaranteed(request)
    if own is not None and own.style == "channels" and len(functions) == 1:
        place, function = functions[0]
        head = ("<|channel|>", f"commentary to=functions.{function['name']} ", "<|constrain|>", "json", "<|message|>")
        spelled = tuple(CONTROL + part if part.startswith("<|") else part for part in head)
        return Plan(arguments_grammar(place, function), own, spelled)
    form = own if own is not None and own.name in _MARKED else BARE
    several = form is not BARE and request.get("parallel_tool_calls") is not False
    several = several and not isinstance(request.get("tool_choice"), Mapping)
    thought, prefix = _thought(answers, prompt)
    begins = answers.begins(form)
    if begins and thought is not None:
        # A call that begins with a control token can't follow reasoning that a grammar describes.
        thought, prefix = None, answers.shut(prompt)
    return Plan(_after(thought, _calls(answers, form, functions, several=several, held=True)), form, (*prefix, *begins))


def _free(
    request: Mapping[str, Any],
    answers: ModelFormats,
    formed: Grammar | None,
    tools: Sequence[tuple[int, Mapping[str, Any]]],
) -> Grammar:
    """Text or the form, or calls; those of strict functions are valid."""
    form = answers.calls
    bare = form is BARE
    if form is None or answers.begins(form) or (form.name not in _MARKED and not bare):
        what = "strict functions" if formed is None else "a form of the answer together with tools"
        text = f"This model can't be held to {what}, since it may choose whether to call one. Use tool_choice required."
        raise InvalidRequest.of({"tools": [text]})
    several = not bare and request.get("parallel_tool_calls") is not False
    calls = _calls(answers, form, tools, several=several, held=False)
    if formed is not None:
        return either(formed, calls)
    if bare:
        begins = regex.cat(of_space(), regex.literal(form.bare), regex.ANYTHING)
        return either(of_regex(regex.negation(begins)), calls)
    words = text_without(*form.opens)
    return either(words, sequence(words, calls))


def _calls(
    answers: ModelFormats,
    form: CallFormat,
    functions: Sequence[tuple[int, Mapping[str, Any]]],
    *,
    several: bool,
    held: bool,
) -> Grammar:
    """One call, or `several`; `held`: their arguments are valid, not only those of strict functions."""
    each = []
    for place, function in functions:
        is_held = held or function.get("strict")
        arguments = arguments_grammar(place, function) if is_held else any_object()
        head = f'{{"name": {dumps(function["name"])}, "{form.arguments}": '
        each.append(sequence(literal(head), arguments, literal("}")))
    call = either(*each)
    if form is BARE:
        return call
    opened = "" if answers.begins(form) else form.opens[0]
    if form.name == "mistral":
        more = repeated(sequence(literal(", "), call)) if several else literal("")
        return sequence(literal(opened + "["), call, more, literal("]"))
    opened += "\n" if opened else ""
    closed = "" if not form.close or answers.is_control(form.close) else "\n" + form.close
    call = sequence(literal(opened), call, literal(closed))
    if not several or not opened or not closed:
        return call
    return sequence(call, repeated(sequence(literal("\n"), call)))


def _thought(answers: ModelFormats, prompt: Sequence[int]) -> tuple[Grammar | None, tuple[str, ...]]:
    """The reasoning before the answer, for a model that reasons; and what stands behind the prompt instead of it."""
    if answers.calls is not None and answers.calls.style == "channels":
        return None, (CONTROL + "<|channel|>", "final", CONTROL + "<|message|>")
    form = answers.reasoning
    if form is None or answers.closes_reasoning(prompt):
        return None, ()
    opened = answers.opens_reasoning(prompt)
    if answers.is_control(form.close) or answers.is_control(form.open):
        return None, answers.shut(prompt)
    thought = sequence(text_without(form.close), literal(form.close), _SPACE)
    return thought if opened else either(literal(""), sequence(literal(form.open), thought)), ()


def _after(thought: Grammar | None, rest: Grammar) -> Grammar:
    return rest if thought is None else sequence(thought, rest)


def of_space() -> regex.Regex:
    """Any space."""
    return regex.rep(regex.alt(*map(regex.literal, " \t\r\n")), 0, None)
