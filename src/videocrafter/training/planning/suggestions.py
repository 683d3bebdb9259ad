"""Suggestions that make a stage fit. Each is checked by its own plan."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from videocrafter.training.config import RecipeConfig, StageConfig
from videocrafter.training.planning.options import Choice, Option, choices
from videocrafter.training.planning.plan import Machine, Planner, RunPlan, StagePlan
from videocrafter.training.recipes.overrides import apply_overrides
from videocrafter.training.video.lora import LoraTraining
from videocrafter.training.video.task_config import ClipDiffusionTaskConfig

_MORE_DEVICES = (2, 4, 8, 16)
_WORTH_IT = 0.995


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The plan of a stage with changes.

    Attributes:
        settings: arguments of `--set`.
        count: number of devices.
        costs: drawbacks, for the user.
        peak: peak memory of a process, in bytes.
        fits: whether the peak fits in the device.
        work: operations, relative to the stage without the changes.
        main_memory: bytes that each GPU's process keeps in main memory.
    """

    settings: tuple[str, ...]
    count: int
    costs: str
    peak: int
    fits: bool
    work: float
    main_memory: int


@dataclass(frozen=True, kw_only=True)
class Advice:
    """Suggestions for a stage that does not fit.

    Attributes:
        stage: name of the stage.
        alone: each setting by itself.
        together: a small set of settings that makes it fit; None if there is none.
        more_devices: the fewest devices that fit it with sharded weights; None if they do not help.
        as_lora: a LoRA instead, if the stage could train one.
    """

    stage: str
    alone: tuple[Outcome, ...]
    together: Outcome | None
    more_devices: Outcome | None
    as_lora: Outcome | None


def advise(planner: Planner, recipe: RecipeConfig, plan: RunPlan) -> list[Advice]:
    """Return advice for each stage that does not fit, in order."""
    return [
        _Adviser(planner, recipe, plan.machine, index).advise()
        for index, stage in enumerate(plan.stages)
        if not plan.fits(stage)
    ]


class _Adviser:
    def __init__(self, planner: Planner, recipe: RecipeConfig, machine: Machine, index: int) -> None:
        self._planner, self._recipe, self._machine, self._index = planner, recipe, machine, index
        self._stage: StageConfig = recipe.stages[index]
        planned = self._planned((), machine)
        assert planned is not None
        self._before = planned

    def advise(self) -> Advice:
        """Return all suggestions for the stage."""
        own = choices(self._stage, self._machine)
        alone = [self._outcome((option,), self._machine) for choice in own for option in choice]
        return Advice(
            stage=self._stage.name,
            alone=tuple(one for one in alone if one is not None and one.peak < self._before_peak),
            together=self._smallest_set(own, self._machine),
            more_devices=self._on_more_devices() if self._machine.count == 1 else None,
            as_lora=self._as_lora(),
        )

    @property
    def _before_peak(self) -> int:
        return self._before.memory.peak.total

    def _planned(self, options: Sequence[Option], machine: Machine) -> StagePlan | None:
        """Plan the stage with these options; None if they cannot be combined."""
        settings = [setting for option in options for setting in option.assignments(self._stage)]
        try:
            changed = apply_overrides(self._recipe, settings)
            # This stage and those before it, which its start depends on.
            shown = replace(changed, stages=changed.stages[: self._index + 1])
            return self._planner.plan(shown, machine).stages[-1]
        except ValueError:
            return None

    def _outcome(self, options: Sequence[Option], machine: Machine) -> Outcome | None:
        planned = self._planned(options, machine)
        if planned is None:
            return None
        return self._described(
            planned,
            machine,
            settings=tuple(setting for option in options for setting in option.assignments(self._stage)),
            costs="; ".join(dict.fromkeys(option.costs for option in options)),
        )

    def _described(self, planned: StagePlan, machine: Machine, settings: tuple[str, ...], costs: str) -> Outcome:
        peak = planned.memory.peak.total
        return Outcome(
            settings=settings,
            count=machine.count,
            costs=costs,
            peak=peak,
            fits=peak <= machine.usable,
            work=planned.flops / self._before.flops,
            main_memory=sum(planned.memory.main_memory.values()),
        )

    def _smallest_set(self, own: Sequence[Choice], machine: Machine) -> Outcome | None:
        """Add options until the stage fits, then remove those that are not needed, most expensive first."""
        chosen: dict[int, Option] = {}
        best = self._before_peak
        for place, choice in enumerate(own):
            tried = list(self._tried({**chosen}, place, choice, machine))
            fitting = next((option for option, found in tried if found.fits), None)
            if fitting is not None:
                return self._trimmed({**chosen, place: fitting}, own, machine)
            strongest = min(tried, key=lambda pair: pair[1].peak, default=None)
            if strongest is not None and strongest[1].peak < _WORTH_IT * best:
                chosen[place], best = strongest[0], strongest[1].peak
        return None

    def _tried(
        self, chosen: dict[int, Option], place: int, choice: Choice, machine: Machine
    ) -> Iterator[tuple[Option, Outcome]]:
        for option in choice:
            found = self._outcome(_in_order({**chosen, place: option}), machine)
            if found is not None:
                yield option, found

    def _trimmed(self, chosen: dict[int, Option], own: Sequence[Choice], machine: Machine) -> Outcome | None:
        for place in sorted(chosen, reverse=True):
            others = {other: option for other, option in chosen.items() if other != place}
            found = self._outcome(_in_order(others), machine)
            if found is not None and found.fits:
                chosen = others
                continue
            milder = next(
                (option for option, found in self._tried(others, place, own[place], machine) if found.fits), None
            )
            if milder is not None:
                chosen = {**others, place: milder}
        return self._outcome(_in_order(chosen), machine)

    def _on_more_devices(self) -> Outcome | None:
        """The fewest devices that fit the stage with sharding alone, or else with further changes."""
        shared = Option(settings=("parallel.sharding=full",), costs="processes exchange weights")
        machines = [replace(self._machine, count=count) for count in _MORE_DEVICES]
        for machine in machines:
            found = self._outcome((shared,), machine)
            if found is not None and found.fits:
                return found
        for machine in machines:
            found = self._smallest_set(choices(self._stage, machine), machine)
            if found is not None:
                return found
        return None

    def _as_lora(self) -> Outcome | None:
        task = self._stage.task
        if not isinstance(task, ClipDiffusionTaskConfig) or task.lora is not None or task.phase != "text_to_video":
            return None
        stage = replace(self._stage, task=replace(task, lora=LoraTraining()))
        earlier = self._recipe.stages[: self._index]
        try:
            planned = self._planner.plan(replace(self._recipe, stages=(*earlier, stage)), self._machine).stages[-1]
        except ValueError:
            return None
        return self._described(planned, self._machine, settings=(), costs="can learn less; the result is a LoRA")


def _in_order(chosen: dict[int, Option]) -> list[Option]:
    return [chosen[place] for place in sorted(chosen)]
