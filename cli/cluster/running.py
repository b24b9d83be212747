"""The workers of a machine that has joined: its agent, and a provider worker if it is to have one, kept running."""

from __future__ import annotations

import sys
import threading
from dataclasses import replace

from cli.output import say
from cli.preflight import check_worker_redis
from cli.supervisor import Supervisor, process_table
from cli.up import LOOK_S, ready_path, supervised, watch
from gateway.cluster.registry import Registry
from gateway.process.start import run
from gateway.settings import Settings
from gateway.store.connection import NOT_NOW, connect
from workers import providers

#: The argument that asks for a provider worker, too.
PROVIDER = "--provider"


def run_workers(settings: Settings, *, provider: bool) -> None:
    """Run until SIGINT or SIGTERM, or the terminal or pipe is closed. Raises: HeadraceError if it can't start."""
    settings = replace(settings, data_dir=settings.data_dir.absolute())
    with supervised(settings, check=lambda: check_worker_redis(settings)) as supervisor:
        table = process_table()
        supervisor.start("agent", table["agent"])
        if provider and providers.is_installed():
            supervisor.start("provider", table["provider"])
        elif provider:
            supervisor.leave_out("provider", providers.NOT_INSTALLED)
        threading.Thread(target=_say_when_it_is_listed, args=(settings, supervisor), daemon=True).start()
        watch(supervisor, settings)


def _say_when_it_is_listed(settings: Settings, supervisor: Supervisor) -> None:
    with connect(settings) as client:
        registry = Registry(client)
        while not supervisor.stopping.wait(LOOK_S):
            try:
                if any(device.address == (settings.node, settings.device) for device in registry.devices()):
                    break
            except NOT_NOW:
                continue
        else:
            return
    say(f"{settings.node}.{settings.device} takes models; logs are in {settings.data_dir / 'logs'}; Ctrl-C ends it")
    supervisor.note_ready()
    ready_path(settings).touch()


def main(settings: Settings) -> None:
    """As a process of its own."""
    run_workers(settings, provider=PROVIDER in sys.argv)


if __name__ == "__main__":
    run(main)
