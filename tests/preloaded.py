"""Imports of the processes of `tests.warm_process`. They create no garbage, so collection is off meanwhile."""

import gc
import importlib

gc.disable()
for name in ("videocrafter.cli.main", "videocrafter.pipelines.loading", "videocrafter.training.run"):
    importlib.import_module(name)
gc.freeze()
gc.enable()
