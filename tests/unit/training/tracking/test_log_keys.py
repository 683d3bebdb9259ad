from pathlib import Path

from toy_run import toy_recipe
from toy_task import ToyTaskConfig

from videocrafter.training.run import train
from videocrafter.training.tracking.log import read_log, values_of
from videocrafter.training.tracking.log_keys import LOG_KEYS


def test_the_table_describes_all_that_the_loop_logs_and_nothing_else(tmp_path: Path) -> None:
    # fp16 logs its loss scale, and a bad step the number of skipped steps.
    train(toy_recipe(precision="fp16", num_steps=5), tmp_path / "fp16")
    train(toy_recipe(ToyTaskConfig(nan_at_step=1), num_steps=5), tmp_path / "bad")
    lines = [line for run in ("fp16", "bad") for line in read_log(tmp_path / run) if line["kind"] == "train"]
    logged = {name for line in lines for name in values_of(line)}
    of_the_task, of_precision_lines = {"loss", "grad_norm", "jitter", "predicted"}, {"fp32_seconds", "bf16_seconds"}
    assert logged == of_the_task | (set(LOG_KEYS) - of_precision_lines)
