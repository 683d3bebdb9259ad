import json
import shutil

import pytest

from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import (
    ModelFolderError,
    check_model_folder,
    fingerprint,
    tensor_names,
)
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"


@pytest.fixture
def folder(t2v_folder, tmp_path):
    return shutil.copytree(t2v_folder, tmp_path / "model")


def test_whole_folders_pass_and_load_as_what_they_are(t2v_folder, i2v_folder):
    assert check_model_folder(t2v_folder)["_class_name"] == "TextToVideoPipeline"
    assert type(load_pipeline(t2v_folder)).__name__ == "TextToVideoPipeline"
    assert type(load_pipeline(i2v_folder)).__name__ == "ImageToVideoPipeline"
    with pytest.raises(ModelFolderError, match="contains a ImageToVideoPipeline"):
        load_pipeline(i2v_folder, expect=TextToVideoPipeline)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def to_almost_nothing(path):
    path.write_bytes(b"abc")


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def break_header(path):
    data = path.read_bytes()
    path.write_bytes(data[:8] + b"!" + data[9:])


def break_json(path):
    path.write_text(path.read_text()[:-20])


def to_list(path):
    path.write_text("[1]")


@pytest.mark.parametrize(
    ("name", "damage", "message"),
    [
        (WEIGHTS, truncate, "damaged"),
        (WEIGHTS, to_almost_nothing, "damaged"),
        (WEIGHTS, lengthen, "damaged"),
        (WEIGHTS, break_header, "damaged"),
        (WEIGHTS, lambda path: path.unlink(), "no weights"),
        ("text_encoder/model.safetensors", truncate, "damaged"),
        ("vae/config.json", break_json, "damaged"),
        ("vae/config.json", to_list, "damaged"),
        ("scheduler/scheduler_config.json", lambda path: path.unlink(), "no configuration"),
        ("model_index.json", break_json, "damaged"),
        ("model_index.json", lambda path: path.unlink(), "missing"),
        ("tokenizer/tokenizer_config.json", break_json, "damaged"),
    ],
)
def test_damage_is_named_before_anything_is_loaded(folder, name, damage, message):
    damage(folder / name)
    part = name.split("/", maxsplit=1)[0]
    with pytest.raises(ModelFolderError, match=message) as caught:
        TextToVideoPipeline.from_pretrained(folder)
    assert part in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_part_is_named(folder):
    shutil.rmtree(folder / "vae")
    with pytest.raises(ModelFolderError, match="vae is missing"):
        load_pipeline(folder)


def test_missing_shard_is_named(folder):
    index = {"weight_map": {"a": "diffusion_pytorch_model-00001-of-00002.safetensors"}}
    (folder / "unet/diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFolderError, match=r"00001-of-00002\.safetensors is missing"):
        load_pipeline(folder)


def test_weights_of_another_network_are_refused(folder):
    path = folder / "unet/config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "temporal_convolution": False}))
    with pytest.raises(ModelFolderError, match=r"unet have unknown .* tensors"):
        load_pipeline(folder)
    shutil.copy(folder / "vae/diffusion_pytorch_model.safetensors", folder / WEIGHTS)
    with pytest.raises(ModelFolderError, match="unet"):
        load_pipeline(folder)


def test_unknown_pipeline_class_is_refused(folder):
    (folder / "model_index.json").write_text('{"_class_name": "StableDiffusionPipeline"}')
    with pytest.raises(ModelFolderError, match="StableDiffusionPipeline"):
        load_pipeline(folder)


def test_broken_configuration_is_one_line(folder):
    path = folder / "unet/config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "head_dim": 7}))
    with pytest.raises(ModelFolderError, match="cannot be loaded") as caught:
        load_pipeline(folder)
    assert "\n" not in str(caught.value)


def test_fingerprint_is_that_of_the_content(folder, t2v_folder):
    assert fingerprint(folder) == fingerprint(t2v_folder)
    path = folder / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    assert fingerprint(folder) != fingerprint(t2v_folder)


def test_tensor_names_are_those_of_the_file(t2v_folder, t2v):
    assert sorted(tensor_names(t2v_folder / WEIGHTS)) == sorted(t2v.unet.state_dict())
