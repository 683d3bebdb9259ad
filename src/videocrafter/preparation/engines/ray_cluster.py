"""The Ray engine: the same units as a Ray Data pipeline. Rows hold addresses and counts, never the bytes of videos.

Every Ray worker supervises a child of its own, as the local engine does: Ray would repeat a task that is killed for
memory without end, and an error within a block would cost the other videos of that block.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Sequence
from typing import Any

from videocrafter.preparation.engines.local import OnDone
from videocrafter.preparation.engines.supervisor import Outcome, Supervisor
from videocrafter.preparation.failures import PreparationError
from videocrafter.preparation.units import Job, Unit, is_done

# Each block is a task. More of them spread evenly; too many cost time on the driver.
_MOST_BLOCKS = 1000

_supervisors: dict[bytes, Supervisor] = {}
"""The supervisor of this Ray worker, by the pickled job."""


class RayEngine:
    """Does units on a Ray cluster. All nodes must see the output folder under the same path.

    It joins the cluster of the environment variable RAY_ADDRESS, or starts Ray on this machine.
    """

    def __init__(self, job: Job) -> None:
        import ray

        self._job = job
        self._is_ours = not ray.is_initialized()
        if self._is_ours:
            try:
                # A cluster that exists has its own number of processors.
                is_joined = bool(os.environ.get("RAY_ADDRESS"))
                own = {} if is_joined else {"num_cpus": job.config.workers or None, "include_dashboard": False}
                ray.init(log_to_driver=False, **own)
            except Exception as error:
                raise PreparationError(f"Ray cannot be started or joined ({error}); check RAY_ADDRESS") from error

    def run(self, units: Sequence[Unit], on_done: OnDone) -> None:
        """Do units, longest first.

        Raises:
            PreparationError: the output cannot be written.
        """
        import ray

        ordered = sorted(units, key=lambda unit: (-unit.length_s, unit.id))
        count = min(len(ordered), _MOST_BLOCKS)
        # A block holds units that follow each other, so one block would otherwise hold all of the longest.
        ordered = [unit for first in range(count) for unit in ordered[first::count]]
        items = [{"unit": pickle.dumps(unit)} for unit in ordered]
        data = ray.data.from_items(items, override_num_blocks=count)
        # No memory is reserved, because a task that fits on no node waits for ever. The child has its own limit.
        job = pickle.dumps(self._job)
        if ordered and ordered[0].stage == "caption" and not self._job.config.caption.url:
            # A model is loaded once in each actor.
            gpus = int(ray.cluster_resources().get("GPU", 0))
            pool = ray.data.ActorPoolStrategy(min_size=1, max_size=max(1, min(gpus, count)))
            done = data.map(
                _Captioner, fn_constructor_args=(job,), compute=pool, num_cpus=1, num_gpus=1 if gpus else None
            )
        else:
            done = data.map(_do, fn_args=(job,), num_cpus=1)
        for row in done.iter_rows():
            if row["stopped"]:
                raise PreparationError(row["stopped"])
            on_done(Outcome(row["unit"], row["stage"], row["seconds"], row["deaths"]))

    def close(self) -> None:
        """Leave the cluster, and end it if it was started here."""
        import ray

        if self._is_ours:
            ray.shutdown()


class _Captioner:
    """An actor that captions clips."""

    def __init__(self, job: bytes) -> None:
        self._job = job

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return _do(row, self._job)


def _do(row: dict[str, Any], job: bytes) -> dict[str, Any]:
    """Do one unit; a worker keeps its child from one unit to the next."""
    unit: Unit = pickle.loads(row["unit"])
    settings: Job = pickle.loads(job)
    if job not in _supervisors:
        _supervisors[job] = Supervisor(settings)
    outcome, stopped = Outcome(unit.id, unit.stage, 0.0), ""
    try:
        # Ray repeats a whole block if its worker is lost.
        if not is_done(unit, settings.files(unit.stage), settings.retry):
            outcome = _supervisors[job].run(unit)
    except PreparationError as error:
        stopped = str(error)
    return {
        "unit": outcome.unit,
        "stage": outcome.stage,
        "seconds": outcome.seconds,
        "deaths": outcome.deaths,
        "stopped": stopped,
    }
