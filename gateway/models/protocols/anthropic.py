"""Anthropic's protocol: what a request of OpenAI's may say that it has no word for."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any

from gateway.models.entry import Model
from gateway.models.protocols.reasoning import thinks
from schemas.base.fields import shown

#: Hints that the API has no word for, with the value at which they do nothing.
_UNKNOWN: Mapping[str, Any] = {
    "seed": None,
    "presence_penalty": 0,
    "frequency_penalty": 0,
    "repetition_penalty": 1,
    "logit_bias": {},
    "min_p": 0,
    "chat_template_kwargs": {},
}
#: What it takes at one value only while the model thinks.
_AT_REST_IN_THOUGHT = {"temperature": 1, "top_p": 1, "top_k": 0}
#: What it knows of what we do not read ourselves, and OpenAI's service tiers in its words.
KNOWN = frozenset(("metadata", "safety_identifier", "service_tier"))
TIERS = {"auto": "auto", "default": "standard_only", "standard_only": "standard_only"}
#: The one form in which it takes what vLLM's clients call structured outputs.
_FORM = "json"
#: What the schema of a tool's arguments may not have on the outside, and what the name of an argument must be.
_COMBINED = ("anyOf", "oneOf", "allOf")
_ARGUMENT = re.compile("[a-zA-Z0-9_.-]{1,64}")
#: Images and documents that it reads.
IMAGES = ("image/jpeg", "image/png", "image/gif", "image/webp")
PDF, PLAIN = "application/pdf", "text/plain"
_DATA_URL = re.compile(r"data:([\w.+-]+/[\w.+-]+)(?:;[\w-]+=[\w.-]+)*;base64,(.+)", re.DOTALL)


def hints(model: Model, request: Mapping[str, Any]) -> dict[str, str]:
    """See `Words`."""
    found = {
        name: f"Got {shown(request[name])}; this provider's API has no {name}. Leave it out."
        for name, neutral in _UNKNOWN.items()
        if request.get(name) not in (None, neutral)
    }
    if (request.get("chat_template_kwargs") or {}).keys() <= {"enable_thinking"}:
        found.pop("chat_template_kwargs", None)  # which is said as `thinking`
    for number, message in enumerate(request.get("messages") or ()):
        if message.get("name") and message["role"] != "tool":
            found[f"messages.{number}.name"] = "This provider's API has no names of speakers. Leave it out."
    if thinks(model, request):
        for name, neutral in _AT_REST_IN_THOUGHT.items():
            if request.get(name) not in (None, neutral):
                found[name] = f"Got {request[name]}; this provider's API takes {neutral} only while a model thinks."
    return found


def refused(model: Model, request: Mapping[str, Any]) -> dict[str, str]:
    """See `Words`."""
    if "input" in request:
        return {"input": "This provider makes no embeddings; take another model."}
    found = {}
    if request.get("logprobs"):
        found["logprobs"] = "Got true; this provider's API has no logprobs. Leave it out."
    for number, stop in enumerate(request.get("stop") or ()):
        if not stop.strip():
            found[f"stop.{number}"] = f"Got {stop!r}; this provider's API takes no stop text of white space only."
    for number, tool in enumerate(request.get("tools") or ()):
        found |= _refused_tool(f"tools.{number}", tool)
    found |= _refused_form(request)
    for number, message in enumerate(request.get("messages") or ()):
        for part in parts(message["content"]):
            if text := _refused_part(part, message["role"]):
                found.setdefault(f"messages.{number}.content", text)
    if "prompt" in request and not all(isinstance(prompt, str) for prompt in _prompts(request)):
        found["prompt"] = "Got token ids; this provider's API takes texts only."
    elif not _says_something(request):
        found["messages" if "messages" in request else "prompt"] = "This provider's API needs a text that is not blank."
    return found


def strange(model: Model, request: Mapping[str, Any]) -> list[str]:
    """See `Words`."""
    passed_on = request.get("passed_on") or {}
    found = [name for name in passed_on if name not in KNOWN]
    if "service_tier" in passed_on and tier(request) is None:
        found.append("service_tier")
    metadata = passed_on.get("metadata")
    if "metadata" in passed_on and not (isinstance(metadata, Mapping) and isinstance(metadata.get("user_id"), str)):
        found.append("metadata")
    return found


def tier(request: Mapping[str, Any]) -> str | None:
    """The service tier that is asked for, in the API's words; None if there is none."""
    wanted = (request.get("passed_on") or {}).get("service_tier")
    return TIERS.get(wanted) if isinstance(wanted, str) else None


def user(request: Mapping[str, Any]) -> str | None:
    """The id of the user; None if there is none."""
    passed_on = request.get("passed_on") or {}
    metadata = passed_on.get("metadata")
    among = metadata.get("user_id") if isinstance(metadata, Mapping) else None
    found = (request.get("user"), passed_on.get("safety_identifier"), among)
    return next((one for one in found if isinstance(one, str) and one), None)


def parts(content: Any) -> Iterator[Mapping[str, Any]]:
    """The parts of a content beside those of text."""
    if isinstance(content, list):
        yield from (part for part in content if part.get("type") != "text")


def data_of(url: str) -> tuple[str, str]:
    """Media type and base64 of a data URL; empty if it is none."""
    found = _DATA_URL.fullmatch(url)
    return (found[1].lower(), found[2]) if found else ("", "")


def _refused_part(part: Mapping[str, Any], role: str) -> str:
    """What is wrong with a part of a content; empty if it can be sent."""
    kind = part.get("type")
    if role not in ("user", "tool") and kind != "refusal":
        return f"Got a part {shown(kind)} in a turn of the role {role}; this provider's API takes texts there."
    if kind == "image_url":
        image = part.get("image_url")
        url = image.get("url") if isinstance(image, Mapping) else image
        return _refused_url(url, IMAGES)
    if kind == "file":
        file = part.get("file")
        data = file.get("file_data") if isinstance(file, Mapping) else None
        if not isinstance(data, str) or not data_of(data)[0]:
            return "Got a file without file_data; this provider's API takes a file as a data URL in base64."
        return _refused_url(data, (PDF, PLAIN))
    if kind in ("refusal", "thinking"):
        return ""
    return f"Got a part {shown(kind)}; this provider's API takes text, images and files."


def _refused_url(url: Any, allowed: tuple[str, ...]) -> str:
    if not isinstance(url, str):
        return "Got no url; must be a data URL in base64 or an https address."
    if url.startswith(("https://", "http://")):
        return ""
    kind, data = data_of(url)
    if not data:
        return f"Got {shown(url)}; must be a data URL in base64 or an https address."
    if kind not in allowed:
        return f"Got {kind}; this provider's API takes {', '.join(allowed)}."
    try:
        base64.b64decode(data)
    except ValueError:
        return f"Got {shown(data)}, which is not base64."
    return ""


def schema_of(request: Mapping[str, Any]) -> Any:
    """The JSON schema that an answer must have; None if there is none."""
    wanted = request.get("response_format") or {}
    named = wanted.get("json_schema") if wanted.get("type") == "json_schema" else wanted
    schema = (named or {}).get("schema")
    return (request.get("structured_outputs") or {}).get(_FORM) if schema is None else schema


def _refused_form(request: Mapping[str, Any]) -> dict[str, str]:
    wanted = request.get("response_format") or {}
    if wanted and schema_of(request) is None:
        return {"response_format": f"Got {wanted.get('type')} without a schema; this provider's API needs one."}
    kind = next(iter(request.get("structured_outputs") or ()), _FORM)
    if kind != _FORM:
        return {"structured_outputs": f"Got {kind}; this provider's API takes {_FORM} only."}
    return {}


def _refused_tool(name: str, tool: Mapping[str, Any]) -> dict[str, str]:
    function = tool.get("function")
    if not isinstance(function, Mapping):
        return {name: f"Got the type {shown(tool.get('type'))}; this provider's API takes functions only."}
    return _refused_schema(f"{name}.function.parameters", function.get("parameters") or {})


def _refused_schema(name: str, schema: Mapping[str, Any]) -> dict[str, str]:
    """What the API takes in no schema of a tool's arguments; deeper in it, it takes both."""
    if combined := next((word for word in _COMBINED if word in schema), None):
        return {f"{name}.{combined}": "This provider's API takes it within properties only. Leave it out."}
    properties = schema.get("properties")
    for argument in properties if isinstance(properties, dict) else ():
        if not _ARGUMENT.fullmatch(argument):
            allowed = "this provider's API takes 1 to 64 letters, digits, underscores, dots or dashes"
            return {f"{name}.properties": f"Got the name {shown(argument)}; {allowed}."}
    return {}


def _prompts(request: Mapping[str, Any]) -> list[Any]:
    prompts = request["prompt"]
    return [prompts] if isinstance(prompts, str) else list(prompts)


def _says_something(request: Mapping[str, Any]) -> bool:
    if "messages" in request:
        return any(_is_said(turn["content"]) or turn.get("tool_calls") for turn in request["messages"])
    return all(prompt.strip() for prompt in _prompts(request))


def _is_said(content: Any) -> bool:
    if isinstance(content, str):
        return bool(content.strip())
    return any(part.get("type") != "text" or str(part.get("text") or "").strip() for part in content)
