"""Names of devices, as Headrace and as engines' libraries write them."""

from __future__ import annotations

import pytest

from gateway.models.devices import DeviceName


@pytest.mark.parametrize(
    ("name", "kind", "number", "in_libraries"),
    [
        ("cpu0", "cpu", 0, "CPU"),
        ("cpu", "cpu", None, "CPU"),
        ("cuda1", "cuda", 1, "cuda:1"),
        ("cuda12", "cuda", 12, "cuda:12"),
        ("cuda", "cuda", None, "cuda:0"),
    ],
)
def test_a_device_has_a_kind_and_a_number(name: str, kind: str, number: int | None, in_libraries: str) -> None:
    device = DeviceName.parse(name)
    assert (device.kind, device.number, device.in_libraries) == (kind, number, in_libraries)
