"""A page of another origin calls `/v1` from a real browser: Debian's package `chromium`."""

from __future__ import annotations

import http.server
import json
import os
import shutil
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.stack import KEY, PATIENCE_S, Stack

pytestmark = pytest.mark.slow
PAGE = """<!doctype html><pre id="said"></pre><script>
const headers = {"Authorization": "Bearer KEY", "Content-Type": "application/json", "X-Stainless-Lang": "js"};
const body = {model: "fake", messages: [{role: "user", content: "hi"}], max_tokens: 3, chat_id: "c", seed: 1};
const post = (more) => fetch("URL/v1/chat/completions",
    {method: "POST", headers, body: JSON.stringify({...body, ...more})});
(async () => {
  const said = {};
  try {
    said.models = (await (await fetch("URL/v1/models", {headers})).json()).data.map(one => one.id);
    const whole = await post({});
    said.text = (await whole.json()).choices[0].message.content;
    said.ignored = whole.headers.get("X-Ignored-Fields");
    said.job = whole.headers.get("X-Job-Id");
    said.stream = (await (await post({stream: true})).text()).trim().split("\\n").pop();
    const refused = await post({temperature: "hot"});
    said.refused = [refused.status, (await refused.json()).error.param];
  } catch (error) { said.error = String(error); }
  document.getElementById("said").textContent = JSON.stringify(said);
})();
</script>"""


@contextmanager
def served(page: str) -> Iterator[str]:
    """A page of its own origin."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(page.encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/"
        server.shutdown()


def test_a_page_of_another_origin_chats(stack: Stack, tmp_path: Path) -> None:
    chromium = shutil.which("chromium")
    if chromium is None:
        assert not os.environ.get("CI"), "install Debian's package chromium"
        pytest.skip("needs Debian's package chromium")
    with served(PAGE.replace("URL", stack.url).replace("KEY", KEY)) as url:
        command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}"]
        command += ["--virtual-time-budget=60000", "--dump-dom", url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE_S, check=True)
    found = done.stdout.partition('<pre id="said">')[2].partition("</pre>")[0]
    said = json.loads(found)
    assert "error" not in said, said
    assert "fake" in said["models"]
    assert said["text"]
    assert (said["ignored"], said["job"][:9]) == ("chat_id", "chatcmpl-")
    assert said["stream"] == "data: [DONE]"
    assert said["refused"] == [400, "temperature"]
