"""Names of devices. Knows none of the devices themselves."""

from __future__ import annotations

from typing import NamedTuple


class DeviceName(NamedTuple):
    """A device such as `cuda1`, in two parts. `number` is None where the name has none."""

    kind: str
    number: int | None

    @classmethod
    def parse(cls, name: str) -> DeviceName:
        """Any text has a kind; whether there are such devices is for others to say."""
        kind = name.rstrip("0123456789")
        digits = name[len(kind) :]
        return cls(kind, int(digits) if digits else None)

    @property
    def in_libraries(self) -> str:
        """As OpenVINO and torch write it: `CPU`, `cuda:1`."""
        return "CPU" if self.kind == "cpu" else f"{self.kind}:{self.number or 0}"
