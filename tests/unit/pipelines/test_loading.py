from pathlib import Path

import pytest
import torch

from tests.tiny_models import save_tiny_pipeline
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.model_folder import ModelFolderError
from videocrafter.pipelines.text_to_video import TextToVideoPipeline
from videocrafter.presets import resolve_model


def test_a_family_is_loaded_by_what_is_expected():
    assert isinstance(load_pipeline("tiny"), TextToVideoPipeline)
    assert isinstance(load_pipeline("tiny", expect=ImageToVideoPipeline), ImageToVideoPipeline)
    assert isinstance(load_pipeline("tiny-i2v"), ImageToVideoPipeline)
    with pytest.raises(ValueError, match="needs an image"):
        load_pipeline("tiny-i2v", expect=TextToVideoPipeline)


def test_a_name_means_the_model_even_where_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny").mkdir()
    assert isinstance(load_pipeline("tiny"), TextToVideoPipeline)
    with pytest.raises(ModelFolderError, match=r"model_index\.json is missing"):
        load_pipeline(Path("./tiny").absolute())


def test_an_unknown_name_is_one_line():
    with pytest.raises(ValueError, match="unknown model 'tinny'; did you mean 'tiny'"):
        load_pipeline("tinny")


def test_a_run_means_its_result(tmp_path):
    save_tiny_pipeline(tmp_path / "final", image=True)
    (tmp_path / "config.json").write_text("{}")
    assert isinstance(load_pipeline(tmp_path), ImageToVideoPipeline)
    assert isinstance(load_pipeline(str(tmp_path), expect=ImageToVideoPipeline), ImageToVideoPipeline)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_network_is_in_the_precision_that_was_asked_for(dtype):
    """The package ships its models in half precision."""
    given = TextToVideoPipeline.from_pretrained(resolve_model("tiny", "t2v")).text_encoder
    for parts in ({}, {"text_encoder": given}):
        pipeline = load_pipeline("tiny-i2v", dtype=dtype, given=parts)
        networks = {name: part for name, part in pipeline.components.items() if isinstance(part, torch.nn.Module)}
        assert networks.keys() == {"vae", "unet", "text_encoder", "image_encoder", "image_projector"}
        for name in networks.keys() - parts.keys():
            assert {value.dtype for value in networks[name].parameters()} == {dtype}, name
        assert all(networks[name] is part for name, part in parts.items())
