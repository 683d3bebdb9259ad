"""The optimizer of a stage: our own, or DeepSpeed's engine where that is asked for."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from torch import nn

from videocrafter.training.config import StageConfig
from videocrafter.training.optim.optimizer import StageOptimizer
from videocrafter.training.parallel.deepspeed_config import completed_config
from videocrafter.training.parallel.deepspeed_engine import DeepSpeedOptimizer
from videocrafter.training.parallel.launcher import asked_deepspeed
from videocrafter.training.parallel.processes import Processes
from videocrafter.training.task import MayBeSharded, Task

_log = logging.getLogger(__name__)


def build_optimizer(
    stage: StageConfig, task: Task, parameters: Mapping[str, nn.Parameter], processes: Processes
) -> StageOptimizer | DeepSpeedOptimizer:
    """What takes the steps of a stage.

    Args:
        parameters: what learns, by name.

    Raises:
        SettingsError: its settings ask for what is not there or does not go together.
    """
    asked = asked_deepspeed(stage.parallel)
    if asked is not None and processes.count == 1:
        _log.info("%s: DeepSpeed is for several processes; this one trains without it.", stage.name)
    elif asked is not None and not isinstance(task, MayBeSharded):
        _log.info("%s: its networks are small, and are trained without DeepSpeed.", stage.name)
    elif asked is not None:
        config = completed_config(asked, stage, processes.count)
        return DeepSpeedOptimizer(stage.optimizer, task.modules(), parameters, processes, config)
    return StageOptimizer(stage.optimizer, task.modules(), parameters, processes)
