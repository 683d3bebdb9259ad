import json
from pathlib import Path

import pytest

from videocrafter.checkpoints.weight_files import weight_files


@pytest.fixture
def unet(tmp_path: Path) -> Path:
    (tmp_path / "unet").mkdir()
    return tmp_path / "unet"


def write_index(path: Path, *names: str) -> None:
    path.write_text(json.dumps({"weight_map": {f"weight{number}": name for number, name in enumerate(names)}}))


def test_a_single_file_precedes_shards_and_each_variant_has_its_own(tmp_path: Path, unet: Path):
    assert weight_files(tmp_path, "unet") == []
    write_index(unet / "diffusion_pytorch_model.safetensors.index.json", "b.safetensors", "a.safetensors")
    assert weight_files(tmp_path, "unet") == [unet / "a.safetensors", unet / "b.safetensors"]
    (unet / "diffusion_pytorch_model.safetensors").touch()
    assert weight_files(tmp_path, "unet") == [unet / "diffusion_pytorch_model.safetensors"]
    assert weight_files(tmp_path, "unet", "fp16") == []
    (unet / "diffusion_pytorch_model.fp16.safetensors").touch()
    assert weight_files(tmp_path, "unet", "fp16") == [unet / "diffusion_pytorch_model.fp16.safetensors"]


def test_transformers_names_its_files_differently(tmp_path: Path):
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "model.safetensors").touch()
    assert weight_files(tmp_path, "text_encoder") == [tmp_path / "text_encoder" / "model.safetensors"]


def test_shards_outside_the_folder_are_ignored(tmp_path: Path, unet: Path):
    write_index(unet / "diffusion_pytorch_model.safetensors.index.json", "../secret.safetensors", "a.safetensors")
    assert weight_files(tmp_path, "unet") == [unet / "a.safetensors"]
