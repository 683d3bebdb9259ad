import math

import torch

from videocrafter.models.embeddings import (
    FrameTextEmbedding,
    PlaceEmbedding,
    SinusoidalEmbedding,
    sinusoid,
)


def test_the_sinusoid_is_cosines_then_sines_at_falling_frequencies() -> None:
    got = sinusoid(torch.tensor([0, 7]), 6)
    frequencies = [1.0, 10_000 ** (-1 / 3), 10_000 ** (-2 / 3)]
    wanted = [math.cos(7 * f) for f in frequencies] + [math.sin(7 * f) for f in frequencies]
    torch.testing.assert_close(got[1], torch.tensor(wanted))
    assert got[0].tolist() == [1, 1, 1, 0, 0, 0]


def test_an_odd_width_ends_in_zero() -> None:
    got = sinusoid(torch.tensor([3.5]), 5)
    assert got.shape == (1, 5)
    assert got[0, -1] == 0
    torch.testing.assert_close(got[:, :4], sinusoid(torch.tensor([3.5]), 4))


def test_the_features_keep_their_precision_in_half_precision() -> None:
    embedding = SinusoidalEmbedding(8, 16).to(torch.bfloat16)
    out = embedding(torch.tensor([998, 999]))
    assert out.dtype == torch.bfloat16
    assert not torch.equal(out[0], out[1])


def test_frame_and_text_act_together() -> None:
    embedding = FrameTextEmbedding(8, text_width=6, width=16)
    text = torch.randn(2, 4, 6)
    out = embedding(3, torch.tensor([8.0, 8.0]), text)
    assert out.shape == (2, 3, 16)
    # What a text adds is another thing in another frame: a sum of two separate terms could not do that.
    difference = out[0] - out[1]
    assert (difference[0] - difference[2]).abs().max() > 1e-3


def test_frame_text_sums_tokens_and_sees_fps() -> None:
    embedding = FrameTextEmbedding(8, text_width=6, width=16)
    text, fps = torch.randn(1, 4, 6), torch.tensor([8.0])
    padded = torch.cat([text, torch.zeros(1, 3, 6)], dim=1)
    torch.testing.assert_close(embedding(3, fps, text), embedding(3, fps, padded))
    assert not torch.allclose(embedding(3, fps, text), embedding(3, 2 * fps, text))


def test_places_mean_the_same_at_every_resolution() -> None:
    embedding, nothing = PlaceEmbedding(5), torch.zeros
    coarse, fine = embedding(nothing(1, 5, 2, 4)), embedding(nothing(1, 5, 6, 12))
    # The middle of every 3 x 3 patch of the fine grid is a place of the coarse one.
    torch.testing.assert_close(fine[..., 1::3, 1::3], coarse)
    assert len(torch.unique(fine.flatten(2), dim=2)[0, 0]) == 6 * 12


def test_places_are_added_to_the_features() -> None:
    embedding, x = PlaceEmbedding(5), torch.randn(3, 5, 4, 4)
    torch.testing.assert_close(embedding(x) - x, embedding(torch.zeros(1, 5, 4, 4)).expand(3, -1, -1, -1))
