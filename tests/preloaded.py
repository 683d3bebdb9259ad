"""What the processes of `tests.warm_process` begin with. Nothing that imports make is garbage, so none is sought."""

import gc
import importlib

gc.disable()
for name in ("videocrafter.cli.main", "videocrafter.pipelines.loading", "videocrafter.training.run"):
    importlib.import_module(name)
gc.freeze()
gc.enable()
