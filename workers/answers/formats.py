"""How models write calls and reasoning: one entry a format. A format is known by what the chat template says.

A new one is an entry here, and a row in docs/tools.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class CallFormat:
    """One way to write tool calls."""

    name: str
    #: Texts of a chat template: it has the format if the template has all texts of one of these.
    signs: tuple[tuple[str, ...], ...]
    #: What reads it: `json`, `named`, `tags` or `pythonic` a call, `channels` a whole answer.
    style: str
    #: Any of these begins a call, or a list of calls.
    opens: tuple[str, ...] = ()
    #: What ends a call; without it the call ends with its arguments.
    close: str = ""
    #: Markers around all calls, which mean nothing by themselves.
    around: tuple[str, ...] = ()
    #: `named`: what separates the parts of a call's head.
    separators: tuple[str, ...] = ()
    #: A call may begin without a marker, at the beginning of an answer, with this character.
    bare: str = ""
    #: `tags`: how the name, the parameters and their values are written.
    tags: Tags | None = None
    #: The key of the arguments, where a grammar writes a call.
    arguments: str = "arguments"


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Calls as tags: `{call}NAME{call_end}`, then `{key}KEY{key_end}VALUE{value_end}` for each argument."""

    call: str = ""
    call_end: tuple[str, ...]
    key: str
    key_end: tuple[str, ...]
    value_end: tuple[str, ...]
    #: What ends the function.
    end: tuple[str, ...]
    #: A value on lines of its own ends at the beginning of a line only.
    lines: bool = False


@dataclass(frozen=True, kw_only=True)
class ReasoningFormat:
    """One way to write reasoning before an answer."""

    name: str
    signs: tuple[str, ...]
    open: str
    close: str


CALL_FORMATS: Mapping[str, CallFormat] = {
    entry.name: entry
    for entry in (
        CallFormat(name="gpt-oss", signs=(("<|channel|>", "<|message|>"),), style="channels"),
        CallFormat(
            name="deepseek-dsml",
            signs=(("｜DSML｜",),),
            style="tags",
            opens=("<｜DSML｜invoke", "<｜DSML｜ invoke"),
            around=(
                *(
                    f"<{slash}｜DSML｜{name}>"
                    for slash in ("", "/")
                    for name in ("function_calls", "tool_calls", " calls")
                ),
            ),
            tags=Tags(
                call='name="',
                call_end=('">', '"/>', '" />'),
                key='parameter name="',
                key_end=('">',),
                value_end=("</｜DSML｜parameter>", "</｜DSML｜ parameter>"),
                end=("</｜DSML｜invoke>", "</｜DSML｜ invoke>"),
            ),
        ),
        CallFormat(
            name="deepseek",
            signs=(("<｜tool▁call▁begin｜>",),),
            style="named",
            opens=("<｜tool▁call▁begin｜>",),
            separators=("<｜tool▁sep｜>",),
            close="<｜tool▁call▁end｜>",
            around=("<｜tool▁calls▁begin｜>", "<｜tool▁calls▁end｜>"),
        ),
        CallFormat(
            name="kimi",
            signs=(("<|tool_call_begin|>", "<|tool_call_argument_begin|>"),),
            style="named",
            opens=("<|tool_call_begin|>",),
            separators=("<|tool_call_argument_begin|>",),
            close="<|tool_call_end|>",
            around=("<|tool_calls_section_begin|>", "<|tool_calls_section_end|>"),
        ),
        CallFormat(
            name="mistral",
            signs=(("[TOOL_CALLS]",),),
            style="named",
            opens=("[TOOL_CALLS]",),
            separators=("[CALL_ID]", "[ARGS]"),
        ),
        CallFormat(
            name="qwen-xml",
            signs=(("<function=", "<parameter="),),
            style="tags",
            opens=("<tool_call>", "<function="),
            close="</tool_call>",
            tags=Tags(
                call="<function=",
                call_end=(">",),
                key="<parameter=",
                key_end=(">",),
                value_end=("</parameter>",),
                end=("</function>",),
                lines=True,
            ),
        ),
        CallFormat(
            name="glm",
            signs=(("<arg_key>", "<arg_value>"),),
            style="tags",
            opens=("<tool_call>",),
            close="</tool_call>",
            tags=Tags(
                call_end=("\n",),
                key="<arg_key>",
                key_end=("</arg_key>\n<arg_value>", "</arg_key><arg_value>"),
                value_end=("</arg_value>",),
                end=("</tool_call>",),
            ),
        ),
        CallFormat(
            name="hermes",
            signs=(("<tool_call>",),),
            style="json",
            opens=("<tool_call>",),
            close="</tool_call>",
        ),
        CallFormat(
            name="pythonic",
            signs=(("<|python_start|>",), ("<|tool_call_start|>",), ("[func_name1(",)),
            style="pythonic",
            opens=("<|python_start|>", "<|tool_call_start|>"),
            around=("<|python_end|>", "<|tool_call_end|>"),
            bare="[",
        ),
        CallFormat(
            name="llama",
            signs=(("<|python_tag|>",), ('{"name": function name, "parameters":',)),
            style="json",
            opens=("<|python_tag|>",),
            bare="{",
            arguments="parameters",
        ),
    )
}

REASONING_FORMATS: Mapping[str, ReasoningFormat] = {
    entry.name: entry
    for entry in (
        ReasoningFormat(name="think", signs=("<think>", "</think>"), open="<think>", close="</think>"),
        ReasoningFormat(name="mistral", signs=("[THINK]",), open="[THINK]", close="[/THINK]"),
        ReasoningFormat(name="seed", signs=("<seed:think>",), open="<seed:think>", close="</seed:think>"),
        ReasoningFormat(name="gemma", signs=("<|channel>thought",), open="<|channel>thought", close="<channel|>"),
    )
}
#: The name in the catalog for a model without a format, whatever its template says.
NONE = "none"


def call_format(templates: Iterable[str], wanted: str = "") -> CallFormat | None:
    """The format that the catalog names, else the one that the templates show."""
    if wanted:
        return CALL_FORMATS.get(wanted)
    texts = list(templates)
    found = (
        entry
        for entry in CALL_FORMATS.values()
        if any(all(sign in text for sign in signs) for signs in entry.signs for text in texts)
    )
    return next(found, None)


def reasoning_format(templates: Iterable[str], wanted: str = "") -> ReasoningFormat | None:
    """The format that the catalog names, else the one that the templates show."""
    if wanted:
        return REASONING_FORMATS.get(wanted)
    texts = list(templates)
    found = (
        entry for entry in REASONING_FORMATS.values() if any(sign in text for sign in entry.signs for text in texts)
    )
    return next(found, None)
