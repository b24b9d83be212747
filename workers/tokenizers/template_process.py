"""Renders chat templates: `python -m workers.tokenizers.template_process FD`. Knows no model and no tokens.

A template is a program of the model's author. transformers' sandbox denies it files and Python; this process also
limits its time and memory. If it exceeds its processor time the kernel kills the process, and the model worker starts
another one.
"""

from __future__ import annotations

import datetime
import resource
import signal
import socket
import sys
from typing import Any

import psutil
from jinja2 import TemplateError, TemplateSyntaxError
from transformers.utils import chat_template_utils

from gateway.process.start import begin_child
from gateway.store.codec import dumps, loads, mended
from workers.engines.frames import FrameSocket

#: Limit on the processor time of one rendering. An ordinary one takes a millisecond.
CPU_S = 2.0
#: Limit on the memory of one rendering, beyond that of this process.
MEMORY_BYTES = 512 << 20
#: Longest rendered conversation in characters: several times the longest request.
MAX_CHARACTERS = 16 << 20


def main() -> int:
    """Answer each frame with one, until the model worker is gone."""
    begin_child()
    # Loads all modules now, so that no request waits for them.
    answer({"template": "{{ messages }}", "messages": [], "tools": None, "at_ms": 0, "variables": {}})
    frames = FrameSocket(socket.socket(fileno=int(sys.argv[1])), dumps=dumps, loads=loads)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MEMORY_BYTES, hard))
    while True:
        try:
            asked = frames.receive()
        except EOFError:
            return 0
        signal.setitimer(signal.ITIMER_PROF, CPU_S)
        answered = answer(asked)
        signal.setitimer(signal.ITIMER_PROF, 0)
        frames.send(answered)


def answer(asked: dict[str, Any]) -> dict[str, str]:
    """`text`: the conversation; `refused`: what the template says against it; `fault`: what is wrong with the template.

    Without messages it is only compiled.
    """
    try:
        return {"text": _rendered(asked)}
    except TemplateSyntaxError as error:
        return {"fault": f"line {error.lineno}: {error.message}"}
    except TemplateError as error:
        # `raise_exception` raises the class itself; errors in a template are subclasses.
        return {"refused" if type(error) is TemplateError else "fault": mended(str(error))}
    except MemoryError:
        return {"fault": f"it takes more than {MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:  # noqa: BLE001 - a template may raise anything
        return {"fault": mended(f"{type(error).__name__}: {error}")[:1000]}


def _rendered(asked: dict[str, Any]) -> str:
    template = chat_template_utils._compile_jinja_template(asked["template"])
    if not asked["messages"]:
        return ""
    at = datetime.datetime.fromtimestamp(asked["at_ms"] / 1000, datetime.UTC)
    template.environment.globals["strftime_now"] = at.strftime
    rendered: Any = chat_template_utils.render_jinja_template(
        [asked["messages"]],
        tools=asked["tools"],
        chat_template=asked["template"],
        add_generation_prompt=True,
        **asked["variables"],
    )
    text = rendered[0][0]
    if len(text) > MAX_CHARACTERS:
        raise OverflowError(f"it makes {len(text)} characters, of {MAX_CHARACTERS} at most")
    return mended(text)


if __name__ == "__main__":
    sys.exit(main())
