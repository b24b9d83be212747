"""Renders chat templates: `python -m workers.tokenizers.template_process FD`. Knows no model and no tokens.

A template is a program of whoever made the model. It runs in transformers' sandbox, which keeps it from files and from
Python; this process keeps it from time and memory, too. What takes more of the processor than it may is killed by the
kernel, wherever it is, and the model worker starts another process.
"""

from __future__ import annotations

import datetime
import resource
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, TemplateSyntaxError
from transformers.utils import chat_template_utils

from gateway.process.start import begin_child
from gateway.store.codec import dumps, loads, mended
from workers.engines.frames import FrameSocket

#: Seconds of the processor that one rendering may take. An ordinary one takes a millisecond.
CPU_S = 2.0
#: Bytes that it may take beyond what this process has before.
MEMORY_BYTES = 512 << 20
#: Characters of a rendered conversation: some times the longest request.
MAX_CHARACTERS = 16 << 20


def main() -> int:
    """Answer each frame by one, until the model worker is gone."""
    begin_child()
    # So that no answer of a template that was tried at once waits for a module.
    answer({"template": "{{ messages }}", "messages": [], "tools": None, "at_ms": 0, "variables": {}})
    frames = FrameSocket(socket.socket(fileno=int(sys.argv[1])), dumps=dumps, loads=loads)
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (_address_space() + MEMORY_BYTES, hard))
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
        # What `raise_exception` raises is no subclass of it; what is wrong with a template is.
        return {"refused" if type(error) is TemplateError else "fault": mended(str(error))}
    except MemoryError:
        return {"fault": f"it takes more than {MEMORY_BYTES >> 20} MiB of memory"}
    except Exception as error:  # noqa: BLE001 - whatever a program of others raises
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


def _address_space() -> int:
    """Bytes of this process' memory, used or not."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


if __name__ == "__main__":
    sys.exit(main())
