"""The workers of a studio: one process per device, each watched on its own."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from videocrafter.web.studio import Studio
from videocrafter.web.worker.supervisor import Supervisor


class Workers:
    """One supervisor for each device of the configuration. Jobs go to whichever worker is free.

    Args:
        studio: the server's.
    """

    def __init__(self, studio: Studio) -> None:
        devices = studio.config.devices
        threads = _threads_of_each(devices)
        self.supervisors = [Supervisor(studio, device=device, threads=threads) for device in devices]

    def start(self) -> None:
        """Start all workers."""
        for one in self.supervisors:
            one.start()

    def stop(self) -> None:
        """End all workers; their jobs return to the queue. May be called twice, and before `start`."""
        for one in self.supervisors:
            one.terminate()
        for one in self.supervisors:
            one.stop()

    @property
    def is_alive(self) -> bool:
        """Whether at least one worker runs."""
        return any(one.is_alive for one in self.supervisors)

    def view(self) -> list[dict[str, Any]]:
        """Return device and state of each worker, as JSON."""
        return [{"device": one.device, "alive": one.is_alive} for one in self.supervisors]

    def estimate(self, request: Mapping[str, Any]) -> dict[str, Any] | None:
        """Ask the first worker that runs for the memory of a request; None if none answers in time."""
        running = next((one for one in self.supervisors if one.is_alive), None)
        return None if running is None else running.estimate(request)


def _threads_of_each(devices: tuple[str, ...]) -> int | None:
    """Return how many threads a worker on the processor may use, None for all: several workers share the cores."""
    on_processor = sum(device == "cpu" for device in devices)
    return max(1, (os.cpu_count() or 1) // on_processor) if on_processor > 1 else None
