"""A model's chat templates: chooses one, and reports errors. Another process renders them.

They are rendered by transformers' own code, so that prompts are as in the model's training.
`workers/tokenizers/template_process.py` has the limits on time and memory.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import subprocess
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from gateway.deployments.reasons import DeploymentFailed, FailureReason
from gateway.errors import InvalidRequest, TemplateFailed
from gateway.process.environment import public
from gateway.process.start import module_command
from gateway.store.codec import dumps, loads
from workers.engines.frames import FrameSocket
from workers.tokenizers.conversation import is_written_well, named_in, trial_of_calls

log = logging.getLogger(__name__)

#: Turns of a conversation, or tools, in the shapes of `schemas/chat.py`.
Messages = Sequence[Mapping[str, Any]]

#: transformers' names of the default template, and of the one for requests with tools.
DEFAULT, TOOL_USE = "default", "tool_use"
#: A renderer that is silent for this long does not run: its processor time is limited to much less.
SILENCE_S = 60.0
#: The conversation with which each template is tried once.
TRIAL: Messages = [{"role": "user", "content": "Hello"}]
TRIAL_TOOLS: Messages = [
    {
        "type": "function",
        "function": {"name": "now", "description": "The time.", "parameters": {"type": "object", "properties": {}}},
    }
]
#: The answer for a template that had to be killed.
ENDLESS = {"fault": "it takes too long", "killed": ""}


class ChatTemplates:
    """The templates of one model, by name. `variables` are further names that they may use, such as `bos_token`."""

    def __init__(self, templates: Mapping[str, str], variables: Mapping[str, str]) -> None:
        self.templates = dict(templates)
        self._variables = dict(variables)
        self._renderer = Renderer()
        #: Templates that exceeded the limits even for a simple conversation.
        self._endless: set[str] = set()
        #: Whether a template wants the arguments of calls as text.
        self._takes_text: dict[str, bool] = {}

    def check(self) -> list[str]:
        """Compile and try each template. Returns warnings for the person who deploys.

        Raises:
            DeploymentFailed: a template does not compile.
        """
        found = []
        for name, template in self.templates.items():
            answered = self._ask(template, [], None, 0)
            if "fault" in answered:
                raise DeploymentFailed(
                    FailureReason.BAD_TEMPLATE,
                    f"The model's chat template ({name}) can't be read: {answered['fault']}.",
                )
            answered = self._ask(template, TRIAL, TRIAL_TOOLS if name == TOOL_USE else None, 0)
            if "killed" in answered:
                self._endless.add(template)
            if "text" not in answered:
                what = answered.get("fault") or answered.get("refused", "")
                found.append(f"The chat template ({name}) does not render a simple conversation: {what}.")
        return found

    def render(
        self, messages: Messages, tools: Messages | None, *, at_ms: int, variables: Mapping[str, Any] | None = None
    ) -> str:
        """Render the prompt for a conversation, up to the beginning of the assistant's turn.

        Raises:
            InvalidRequest: there is no template for this request, or it refuses the conversation.
            TemplateFailed: the template is wrong, or takes too long.
        """
        template = self.chosen(tools)
        told = named_in(template, variables or {})
        answered = ENDLESS if template in self._endless else self._ask(template, messages, tools, at_ms, told)
        if "refused" in answered:
            raise InvalidRequest(f"The model's chat template refuses these messages: {answered['refused']}")
        if "fault" in answered:
            raise TemplateFailed(
                f"The model's chat template fails on this conversation: {answered['fault']}. "
                "The fault is the template's: tell whoever deployed the model, or use /completions."
            )
        return answered["text"]

    def close(self) -> None:
        """End the process."""
        self._renderer.close()

    def takes_text(self, template: str) -> bool:
        """Whether a template wants the arguments of calls as JSON text, and not as objects."""
        if template not in self._takes_text:
            tried = [
                self._ask(template, trial_of_calls(arguments), TRIAL_TOOLS, 0).get("text", "")
                for arguments in ({"place": "Oslo"}, '{"place": "Oslo"}')
            ]
            as_object, as_text = map(is_written_well, tried)
            self._takes_text[template] = as_text and not as_object
        return self._takes_text[template]

    def chosen(self, tools: Messages | None) -> str:
        """The template that transformers would use. Raises: InvalidRequest."""
        template = (self.templates.get(TOOL_USE) if tools else None) or self.templates.get(DEFAULT)
        if not template:
            named = f"only chat templates of the names {', '.join(sorted(self.templates))}" if self.templates else ""
            raise InvalidRequest(f"This model has {named or 'no chat template'}; use /completions with a whole prompt.")
        if tools and "tools" not in template:
            raise InvalidRequest.of({"tools": ["The model's chat template has no place for tools; leave them out."]})
        return template

    def _ask(
        self,
        template: str,
        messages: Messages,
        tools: Messages | None,
        at_ms: int,
        told: Mapping[str, Any] | None = None,
    ) -> dict[str, str]:
        asked = {
            "template": template,
            "messages": list(messages),
            "tools": tools and list(tools),
            "at_ms": at_ms,
            "variables": {**(told or {}), **self._variables},
        }
        return self._renderer.ask(asked)


class Renderer:
    """A process that renders one conversation after the other. Another one is started when it has died."""

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._frames: FrameSocket | None = None

    def ask(self, asked: Mapping[str, Any]) -> dict[str, str]:
        """Render in the process. If it dies, that is the template's fault."""
        with self._turn:
            # An older process may have been killed while it was idle: then another one is tried.
            for attempt in range(2):
                fresh = self._process is None
                if fresh:
                    self._start()
                assert self._frames is not None
                try:
                    self._frames.send(asked)
                    answered: dict[str, str] = self._frames.receive(SILENCE_S)
                except (OSError, EOFError) as error:
                    status = self._end()
                    if isinstance(error, TimeoutError) or status == -signal.SIGPROF:
                        return ENDLESS
                    log.warning("the process that renders templates has ended with status %s", status)
                    if attempt or fresh:
                        return {"fault": f"the process that renders it has ended with status {status}"}
                else:
                    return answered
        raise AssertionError("unreachable")

    def close(self) -> None:
        """End the process, if there is one."""
        with self._turn:
            self._end()

    def _start(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                module_command("workers.tokenizers.template_process", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                env={**public(os.environ), "HF_HUB_OFFLINE": "1"},
            )
        self._frames = FrameSocket(ours, dumps=dumps, loads=loads)

    def _end(self) -> int:
        """Its exit status; 0 if there is none."""
        process, frames = self._process, self._frames
        self._process = self._frames = None
        if process is None or frames is None:
            return 0
        frames.socket.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            # A process that the kernel kills is gone in a moment; its exit status says why.
            process.wait(1)
        process.kill()
        return process.wait()
