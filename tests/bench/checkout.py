"""A stack with one model, of whatever checkout PYTHONPATH names; a child with its code, and ours for none of it.

`python -P tests/bench/checkout.py`: model and settings as a JSON line on stdin; a line on stdout when it serves; it
ends with stdin.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


class Checkout:
    """Its processes run the code of `root`, under the same interpreter, until it is closed."""

    def __init__(self, root: Path, model: str = "fake", **settings: object) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", str(Path(__file__).resolve())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=root,
            env={**os.environ, "PYTHONPATH": str(root)},
        )
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps([model, settings]) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the stack of {root} did not start")
        serves = json.loads(line)
        if not Path(serves["code"]).is_relative_to(root.resolve()):
            raise RuntimeError(f"{root} has run {serves['code']}, which is not its code")
        self.port, self.key = int(serves["port"]), str(serves["key"])

    def close(self) -> None:
        """End its processes."""
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait(60)


@contextlib.contextmanager
def checkouts(against: Path | None, model: str = "fake", **settings: object) -> Iterator[dict[str, Checkout]]:
    """Stacks of `this` checkout, and of the `other` one, if there is one."""
    roots = {"this": ROOT} | ({"other": against.resolve()} if against else {})
    with contextlib.ExitStack() as stacks:
        servers = {name: Checkout(root, model, **settings) for name, root in roots.items()}
        for server in servers.values():
            stacks.callback(server.close)
        yield servers


def main() -> None:
    """Serve until stdin closes."""
    import gateway
    from tests.stack import KEY, Stack

    model, settings = json.loads(sys.stdin.readline())
    with tempfile.TemporaryDirectory(prefix="hr-") as folder:
        stack = Stack(Path(folder) / "s", **settings)
        try:
            stack.up({model: {}})
            serves = {"port": stack.settings.http_port, "key": KEY, "code": str(Path(gateway.__file__).resolve())}
            print(json.dumps(serves), flush=True)
            sys.stdin.read()
        finally:
            stack.close()


if __name__ == "__main__":
    main()
