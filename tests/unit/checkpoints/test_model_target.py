from pathlib import Path

import pytest

from videocrafter.checkpoints.model_target import check_target


def test_only_models_and_empty_folders_are_replaced(tmp_path: Path) -> None:
    model, lora, empty, holiday = (tmp_path / name for name in ("model", "lora", "empty", "holiday"))
    for folder in (model, lora, empty, holiday):
        folder.mkdir()
    (model / "model_index.json").touch()
    (lora / "pytorch_lora_weights.safetensors").touch()
    (holiday / "photo.png").touch()
    for folder in (model, lora, empty):
        check_target(folder, folder=True, overwrite=True)
        with pytest.raises(ValueError, match="already exists"):
            check_target(folder, folder=True, overwrite=False)
    with pytest.raises(ValueError, match="holds something other than a model"):
        check_target(holiday, folder=True, overwrite=True)
