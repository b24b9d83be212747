"""Exports the traces of jobs beside the keeper's rounds, in a thread of its own: a collector may be slow, or away."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from gateway.jobs.store import JobStore
from gateway.models.catalog import Catalog
from gateway.settings import Settings
from gateway.store.loop import Loop
from gateway.tracing.job_traces import JobTraces
from gateway.tracing.start import exporter

#: Pause while no job waits, and how long the end of this process waits for the last export.
PAUSE_S, CLOSE_S = 1.0, 1.0


@contextlib.contextmanager
def exporting(settings: Settings, store: JobStore, catalog: Catalog, stop: threading.Event) -> Iterator[None]:
    """Context in which traces are exported until `stop` is set, if the settings say so. Raises: InvalidSetting."""
    sender = exporter(settings, "keeper")
    if sender is None:
        yield
        return
    traces = JobTraces(store, catalog, sender)
    thread = Loop(traces.step, name="traces", over=lambda: stop.wait(PAUSE_S))
    thread.start()
    yield
    thread.join(CLOSE_S)
    sender.close()
