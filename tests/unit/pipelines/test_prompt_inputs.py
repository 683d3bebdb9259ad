"""Prompts, embeddings in their place, and the initial noise, as arguments of a call."""

import numpy as np
import pytest
import torch

LATENT = {"seeds": 1, "output_type": "latent"}


@pytest.mark.parametrize("kind", ["t2v", "i2v"])
def test_encoded_prompts_make_the_same_videos(kind, request):
    pipeline = request.getfixturevalue(kind)
    image = {"image": torch.zeros(3, 9, 9)} if pipeline.takes_image else {}
    settings = {**LATENT, **image, "num_videos_per_prompt": 2}
    prompts, negatives = ["a cat", "rocket"], ["night", ""]
    expected = pipeline(prompt=prompts, negative_prompt=negatives, **settings).frames
    positive, negative = pipeline.encode_prompt(prompts, negative_prompt=negatives)
    assert positive.shape == negative.shape == (2, 12, 16)
    given = {"prompt_embeds": positive, "negative_prompt_embeds": negative}
    assert torch.equal(pipeline(**given, **settings).frames, expected)
    # The prompt as a text and the negative prompt as tokens, and the other way round.
    assert torch.equal(pipeline(prompt=prompts, negative_prompt_embeds=negative, **settings).frames, expected)
    assert torch.equal(pipeline(prompt_embeds=positive, negative_prompt=negatives, **settings).frames, expected)


def test_encode_prompt_repeats_and_leaves_out_as_in_diffusers(t2v):
    positive, negative = t2v.encode_prompt(["a cat", "rocket"], "cpu", 2, False)
    assert positive.shape[0] == 4
    assert torch.equal(positive[0], positive[1])
    assert negative is None
    assert not positive.requires_grad
    again, _ = t2v.encode_prompt(None, prompt_embeds=positive)
    assert torch.equal(again, positive)


def test_embeddings_of_another_length_are_allowed_in_both_branches(t2v):
    short = torch.randn(1, 5, 16, generator=torch.Generator().manual_seed(0))
    assert t2v(prompt_embeds=short, negative_prompt_embeds=short * 0, **LATENT).frames.shape == (1, 4, 4, 2, 2)
    with pytest.raises(ValueError, match="the prompts have 5 tokens and the negative prompts 12"):
        t2v(prompt_embeds=short, **LATENT)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"prompt": "a", "prompt_embeds": torch.zeros(1, 12, 16)}, "prompt or prompt_embeds, but both"),
        (
            {"prompt": "a", "negative_prompt": "b", "negative_prompt_embeds": torch.zeros(1, 12, 16)},
            "negative_prompt or negative_prompt_embeds, but both",
        ),
        ({"prompt_embeds": torch.zeros(1, 12, 15)}, r"prompt_embeds must be a float tensor \[prompts, tokens, 16\]"),
        ({"prompt_embeds": torch.zeros(12, 16)}, r"but is torch.float32 \[12, 16\]"),
        ({"prompt_embeds": np.zeros((1, 12, 16))}, "but is ndarray"),
        ({"prompt": ["a"] * 3, "negative_prompt_embeds": torch.zeros(2, 12, 16)}, "has 2 rows for 3 prompts"),
        ({"prompt": "a", "latents": torch.zeros(1, 4, 4, 2, 3)}, r"latents must be a float tensor \[1, 4, 4, 2, 2\]"),
        ({"prompt": "a", "latents": np.zeros((1, 4, 4, 2, 2))}, "but is ndarray"),
        ({"prompt": "a", "generator": 3}, r"generator must be a torch\.Generator"),
    ],
)
def test_wrong_combinations_and_shapes_are_refused(t2v, arguments, message):
    with pytest.raises(ValueError, match=message):
        t2v.check_inputs(**{"prompt": None, **arguments})


def test_given_noise_replaces_drawn_noise(t2v):
    request = t2v.check_inputs(["a cat", "rocket"], seeds=3)
    noise = t2v.prepare_latents(request)
    expected = t2v(["a cat", "rocket"], seeds=3, output_type="latent").frames
    assert torch.equal(t2v(["a cat", "rocket"], latents=noise, output_type="latent").frames, expected)
    halves = t2v.check_inputs(["a cat", "rocket"], latents=noise).split(1)
    assert torch.equal(halves[1].latents, noise[1:])


def test_columns_of_prompts_are_lists(t2v):
    assert t2v.check_inputs(np.array(["a cat", "rocket"]), np.array(["", "night"])).negative_prompts == ("", "night")


def test_a_tuple_is_returned_on_request(t2v):
    (frames,) = t2v("a cat", seeds=1, return_dict=False)
    np.testing.assert_array_equal(frames, t2v("a cat", seeds=1).frames)
