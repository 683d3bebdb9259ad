import pytest
import torch

from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.phases import EncodedRequest

RED = torch.tensor([1.0, 0.0, 0.0])[:, None, None].expand(3, 20, 24)
BLUE = torch.tensor([0.0, 0.0, 1.0])[:, None, None].expand(3, 20, 24)


def latents(pipeline, image, **settings):
    settings = {"prompt": "a cat", "seeds": 1, "output_type": "latent", **settings}
    return pipeline(image, **settings).frames


def test_the_image_changes_the_video_and_its_scale_weighs_it(i2v):
    red, blue = latents(i2v, RED), latents(i2v, BLUE)
    assert (red - blue).abs().max() > 1e-3
    assert torch.equal(latents(i2v, RED, image_scale=0.0), latents(i2v, BLUE, image_scale=0.0))
    assert (latents(i2v, RED, image_scale=0.5) - red).abs().max() > 1e-4


def test_one_image_per_prompt_and_no_dependence_on_the_batch(i2v):
    both = latents(i2v, [RED, BLUE], prompt=["a cat", "rocket"], seeds=[1, 2])
    alone = latents(i2v, BLUE, prompt="rocket", seeds=2)
    torch.testing.assert_close(both[1], alone[0], rtol=0, atol=1e-4)


def test_unconditional_image_is_the_null_image_not_zero_tokens(i2v):
    request = i2v.check_inputs("a cat", seeds=1)
    conditional, unconditional = i2v.encode(request, [RED])
    grey, _ = i2v.encode(request, [torch.full((3, 16, 16), 0.5)])
    assert unconditional is not None
    torch.testing.assert_close(unconditional.image, grey.image)
    assert unconditional.image.abs().max() > 0.1
    assert not torch.allclose(unconditional.image, conditional.image)
    assert torch.equal(unconditional.fps, conditional.fps)


def test_prompt_may_be_left_out(i2v):
    assert i2v(RED, seeds=1).frames.shape == (1, 4, 16, 16, 3)


def test_saved_and_loaded_pipeline_makes_the_same_video(i2v, i2v_folder):
    loaded = ImageToVideoPipeline.from_pretrained(i2v_folder)
    loaded.set_progress_bar_config(disable=True)
    assert torch.equal(latents(i2v, RED), latents(loaded, RED))


def test_text_and_image_may_be_guided_apart(i2v):
    joint = latents(i2v, RED, guidance_scale=4.0)
    torch.testing.assert_close(latents(i2v, RED, guidance_scale=4.0, image_guidance_scale=4.0), joint)
    for image_scale in (0.0, 1.0, 2.0):
        apart = latents(i2v, RED, guidance_scale=4.0, image_guidance_scale=image_scale)
        assert (apart - joint).abs().max() > 1e-3
    # Turning text guidance off does not turn image guidance off.
    off = latents(i2v, RED, guidance_scale=1.0)
    assert (latents(i2v, RED, guidance_scale=1.0, image_guidance_scale=3.0) - off).abs().max() > 1e-3


def test_guidance_apart_asks_about_nothing_the_picture_and_both(i2v):
    request = i2v.check_inputs("a cat", seeds=1, guidance_scale=4.0, image_guidance_scale=2.0)
    conditional, unconditional = i2v.encode(request, [RED])
    calls = []

    class Spy:
        def __call__(self, sample, timestep, text, fps, image, image_scale):
            calls.append((text, image))
            return torch.zeros_like(sample)

    encoded = EncodedRequest(request=request, conditional=conditional, unconditional=unconditional)
    steps = i2v.sampling_steps(request)
    i2v.denoise(encoded, steps, steps.start(i2v.prepare_latents(request)), unet=Spy())
    text, image = calls[0]
    assert torch.equal(text, torch.cat([unconditional.text, unconditional.text, conditional.text]))
    assert torch.equal(image, torch.cat([unconditional.image, conditional.image, conditional.image]))


def test_a_picture_of_another_shape_is_stretched_cropped_or_padded(i2v):
    wide = torch.linspace(0, 1, 40).expand(3, 12, 40)
    stretched = latents(i2v, wide)
    assert torch.equal(latents(i2v, wide, image_fit="stretch"), stretched)
    cropped = latents(i2v, wide, image_fit="crop")
    torch.testing.assert_close(cropped, latents(i2v, wide[:, :, 14:26]))
    padded = latents(i2v, wide, image_fit="pad")
    assert (padded - stretched).abs().max() > 1e-4
    assert (cropped - stretched).abs().max() > 1e-4


def test_the_image_at_fault_is_named(i2v):
    with pytest.raises(ValueError, match="image 2 of 3: an image needs at least 2 pixels"):
        i2v([RED, torch.zeros(3, 1, 9), BLUE], ["a", "b", "c"])


def test_wrong_number_of_images_and_negative_scale_are_refused(i2v):
    with pytest.raises(ValueError, match="2 images for 1 prompts"):
        i2v([RED, BLUE], "a cat")
    with pytest.raises(ValueError, match="image_scale"):
        i2v(RED, "a cat", image_scale=-1.0)
