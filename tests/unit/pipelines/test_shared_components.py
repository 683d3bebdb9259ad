import copy

import pytest
import torch
from diffusers import DiffusionPipeline
from torch import nn

from tests.tiny_models import DEFAULTS, KNOWLEDGE, tiny_pipeline
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline


def settings(pipeline):
    return {name: pipeline.config[name] for name in ("defaults", "knowledge", "signal_scale")}


def dtypes(pipeline):
    return {part.dtype for part in pipeline.components.values() if isinstance(part, nn.Module)}


@pytest.mark.parametrize("copied", [False, True])
def test_settings_travel_with_the_components(copied):
    one = tiny_pipeline(image=False, signal_scale=0.3)
    other = TextToVideoPipeline(**(copy.deepcopy(one.components) if copied else one.components))
    assert settings(other) == settings(one)
    frames = [pipeline("a cat", seeds=1, output_type="latent").frames for pipeline in (one, other)]
    assert torch.equal(*frames)


def test_given_settings_win_and_pipelines_that_share_a_network_keep_their_own():
    first = tiny_pipeline(image=False, signal_scale=0.3)
    changed = TextToVideoPipeline(**first.components, defaults={**DEFAULTS, "num_frames": 2}, signal_scale=1.0)
    assert settings(changed) == {**settings(first), "defaults": {**DEFAULTS, "num_frames": 2}, "signal_scale": 1.0}
    for pipeline in (first, changed, first):
        assert settings(TextToVideoPipeline(**pipeline.components)) == settings(pipeline)
    first.register_to_config(signal_scale=0.5)
    assert TextToVideoPipeline(**first.components).config["signal_scale"] == 0.5
    assert TextToVideoPipeline.from_pipe(changed, signal_scale=0.7).config["signal_scale"] == 0.7


def test_from_pipe_goes_both_ways_and_keeps_the_precision():
    both = tiny_pipeline(image=True, signal_scale=0.3, defaults={**DEFAULTS, "image_scale": 0.5})
    both.to(torch.bfloat16)
    text = TextToVideoPipeline.from_pipe(both)
    assert settings(text) == {**settings(both), "defaults": DEFAULTS}
    assert text.unet is both.unet
    assert dtypes(text) == dtypes(both) == {torch.bfloat16}
    assert text("a cat", seeds=1, num_inference_steps=1, output_type="latent").frames.isfinite().all()
    with pytest.raises(
        ValueError, match="needs image_encoder and image_projector, which TextToVideoPipeline does not"
    ):
        ImageToVideoPipeline.from_pipe(text)
    image_parts = {"image_encoder": both.image_encoder, "image_projector": both.image_projector}
    again = ImageToVideoPipeline.from_pipe(text, **image_parts, dtype="float32")
    assert again.knowledge == both.knowledge
    assert dtypes(again) == {torch.float32}
    with pytest.raises(ValueError, match="the unet has no image branch, which ImageToVideoPipeline needs"):
        ImageToVideoPipeline.from_pipe(tiny_pipeline(image=False), **image_parts)


def test_from_pipe_refuses_what_it_does_not_know(t2v):
    with pytest.raises(TypeError, match="unknown argument 'safety_checker'"):
        TextToVideoPipeline.from_pipe(t2v, safety_checker=None)
    with pytest.raises(ValueError, match="unet is a Linear; expected a VideoUNet"):
        TextToVideoPipeline.from_pipe(t2v, unet=nn.Linear(1, 1))
    with pytest.raises(ValueError, match="unknown dtype 'int8'"):
        TextToVideoPipeline.from_pipe(t2v, dtype="int8")


def test_from_pipe_of_diffusers_gives_the_same(t2v):
    of_diffusers = DiffusionPipeline.from_pipe.__func__(TextToVideoPipeline, t2v)
    assert settings(of_diffusers) == settings(TextToVideoPipeline.from_pipe(t2v)) == settings(t2v)
    assert of_diffusers.config["knowledge"] == KNOWLEDGE


def test_pipelines_of_the_hub_have_one_precision_too(monkeypatch):
    given = []
    monkeypatch.setattr(
        DiffusionPipeline, "from_pretrained", classmethod(lambda cls, name, **kwargs: given.append(kwargs))
    )
    TextToVideoPipeline.from_pretrained("user/model")
    TextToVideoPipeline.from_pretrained("user/model", torch_dtype="bfloat16", revision="v2")
    assert given[0] == {"dtype": {"default": torch.float32}}
    assert given[1] == {"dtype": {"default": torch.bfloat16}, "revision": "v2"}
    with pytest.raises(ValueError, match="dtype names image_encoder"):
        TextToVideoPipeline.from_pretrained("user/model", dtype={"image_encoder": "float16"})
