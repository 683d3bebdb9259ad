"""An engine without processes, for tests of what the stages do."""

from collections.abc import Callable, Sequence

from videocrafter.preparation.engines.supervisor import Outcome
from videocrafter.preparation.units import Job, Unit, do_unit


class InlineEngine:
    """Does units in this process, in a given order."""

    def __init__(self, job: Job, *, backwards: bool = False) -> None:
        self._job, self._backwards = job, backwards
        self.done: list[str] = []

    def run(self, units: Sequence[Unit], on_done: Callable[[Outcome], None]) -> None:
        for unit in sorted(units, key=lambda one: one.id, reverse=self._backwards):
            do_unit(unit, self._job)
            self.done.append(f"{unit.stage} {unit.id}")
            on_done(Outcome(unit.id, unit.stage, 0.1))

    def close(self) -> None:
        """Nothing to end."""
