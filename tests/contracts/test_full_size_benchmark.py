"""The benchmark of full-size models trains like the command, here at toy size."""

from pathlib import Path

import pytest
from benchmarks import full_size

from tests.tiny_models import save_tiny_pipeline


@pytest.mark.parametrize("recipe", full_size.TRAINING)
def test_a_training_phase_returns_the_seconds_of_a_step_and_deletes_its_run(tmp_path: Path, recipe: str):
    save_tiny_pipeline(tmp_path / "converted", image=False)
    size = ["--height", "16", "--width", "16", "--frames", "4"]
    given = full_size.arguments(["--folder", str(tmp_path), *size, "--precision", "fp32"])
    measured = full_size.PHASES[recipe](given)
    assert measured["seconds"] > 0
    assert measured["peak"] > 0
    assert {path.name for path in tmp_path.iterdir()} == {"converted", "clips"}


def test_full_fine_tuning_keeps_its_moments_in_half_precision():
    given = full_size.arguments([])
    assert full_size.training_settings("finetune", given)["optimizer.state_dtype"] == "bf16"
    assert "optimizer.state_dtype" not in full_size.training_settings("lora", given)
