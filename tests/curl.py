"""The customer's document's own requests, sent as a reader would: with curl, and with no header but the key."""

from __future__ import annotations

import json
import shutil
import subprocess
import uuid
from pathlib import Path
from typing import Any

import httpx

from tests.stack import KEY, Stack

DOCUMENT = Path(__file__).parent / "document"


def send(stack: Stack, method: str, path: str, name: str = "") -> dict[str, Any]:
    """Send a request with the body of that name, by curl if there is one. Returns the envelope of a success."""
    body = DOCUMENT / f"{name}.request.json"
    if shutil.which("curl"):
        command = ["curl", "--silent", "--show-error", "--max-time", "100", "--request", method, f"{stack.url}{path}"]
        command += ["--noproxy", "*", "--header", f"Authorization: Bearer {KEY}", "--write-out", "\n%{http_code}"]
        command += ["--data-binary", f"@{body}"] if name else []
        done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=110)
        text, _, status = done.stdout.rpartition("\n")
    else:
        headers = {"Authorization": f"Bearer {KEY}"}
        content = body.read_bytes() if name else None
        response = httpx.request(method, f"{stack.url}{path}", content=content, headers=headers, timeout=100)
        text, status = response.text, str(response.status_code)
    answer: dict[str, Any] = json.loads(text)
    assert status == "200", text
    assert (answer["code"], answer["message"]) == (200, "success")
    assert uuid.UUID(answer["request_id"])
    return answer


def example(name: str) -> Any:
    """The document's example of an answer."""
    return json.loads((DOCUMENT / f"{name}.answer.json").read_text())
