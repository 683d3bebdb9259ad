import json
from pathlib import Path

import pytest

from videocrafter.checkpoints.weight_files import choose_weights, variants_of, weight_files

STEM = "diffusion_pytorch_model"


def write_index(path: Path, *names: str) -> None:
    path.write_text(json.dumps({"weight_map": {f"weight{number}": name for number, name in enumerate(names)}}))


def test_each_variant_has_its_own_files(tmp_path: Path):
    assert weight_files(tmp_path, "unet") == []
    (tmp_path / f"{STEM}.safetensors").touch()
    assert weight_files(tmp_path, "unet") == [tmp_path / f"{STEM}.safetensors"]
    assert weight_files(tmp_path, "unet", "fp16") == []
    (tmp_path / f"{STEM}.fp16.safetensors").touch()
    assert weight_files(tmp_path, "unet", "fp16") == [tmp_path / f"{STEM}.fp16.safetensors"]


@pytest.mark.parametrize(("part", "stem", "shards_first"), [("unet", STEM, True), ("text_encoder", "model", False)])
def test_shards_next_to_a_single_file_are_treated_as_the_library_does(
    tmp_path: Path, part: str, stem: str, shards_first: bool
):
    single, shards = [tmp_path / f"{stem}.safetensors"], [tmp_path / "a.safetensors", tmp_path / "b.safetensors"]
    write_index(tmp_path / f"{stem}.safetensors.index.json", "b.safetensors", "a.safetensors")
    assert weight_files(tmp_path, part) == shards
    single[0].touch()
    assert weight_files(tmp_path, part) == (shards if shards_first else single)


@pytest.mark.parametrize(
    "value", [{"x": "../a.safetensors"}, {"x": "a.bin"}, {}, [], None, {"x": 3}, "a.safetensors"]
)
def test_an_index_that_names_no_files_of_its_folder_is_damaged(tmp_path: Path, value: object):
    (tmp_path / f"{STEM}.safetensors.index.json").write_text(json.dumps({"weight_map": value}))
    with pytest.raises(ValueError, match=r"index.json is damaged: "):
        weight_files(tmp_path, "unet")


def test_plain_files_precede_variants_unless_one_is_wanted(tmp_path: Path):
    write_index(tmp_path / f"{STEM}.safetensors.index.bf16.json", f"{STEM}.bf16-00001-of-00001.safetensors")
    (tmp_path / f"{STEM}.bf16-00001-of-00001.safetensors").touch()
    assert choose_weights(tmp_path, "unet")[1] == "bf16"
    (tmp_path / f"{STEM}.fp16.safetensors").touch()
    assert variants_of(tmp_path, "unet") == ["bf16", "fp16"]
    assert choose_weights(tmp_path, "unet")[1] == "fp16"
    assert choose_weights(tmp_path, "unet", "bf16")[1] == "bf16"
    with pytest.raises(ValueError, match="in the variants bf16, fp16 only; pass variant='bf16'"):
        choose_weights(tmp_path, "unet", "int8")
    (tmp_path / f"{STEM}.safetensors").touch()
    assert choose_weights(tmp_path, "unet")[1] is None
    assert choose_weights(tmp_path, "unet", "int8")[1] is None


def test_missing_and_pickled_weights_are_told_apart(tmp_path: Path):
    with pytest.raises(ValueError, match=r"the model is incomplete: .* \(it has none\)"):
        choose_weights(tmp_path, "unet")
    (tmp_path / "other.safetensors").touch()
    with pytest.raises(ValueError, match=r"\(it has other.safetensors\)"):
        choose_weights(tmp_path, "unet")
    (tmp_path / f"{STEM}.bin").touch()
    with pytest.raises(ValueError, match=r"pickled weights only .* refused .* weights_only=True"):
        choose_weights(tmp_path, "unet")
