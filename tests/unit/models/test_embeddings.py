import math

import pytest
import torch

from videocrafter.models.embeddings import (
    FrameTextEmbedding,
    PlaceEmbedding,
    SinusoidalEmbedding,
    _waves,
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
    out = embedding(torch.tensor([998, 999]), torch.bfloat16)
    assert out.dtype == torch.bfloat16
    assert not torch.equal(out[0], out[1])


def test_frame_and_text_act_together() -> None:
    embedding = FrameTextEmbedding(8, text_width=6, width=16)
    text = torch.randn(2, 4, 6)
    out = embedding(3, torch.tensor([8.0, 8.0]), text)
    assert out.shape == (2, 3, 16)
    # The effect of the text differs between frames, which a sum of two separate terms could not express.
    difference = out[0] - out[1]
    assert (difference[0] - difference[2]).abs().max() > 1e-3


def test_frame_text_sums_tokens_and_sees_fps() -> None:
    embedding = FrameTextEmbedding(8, text_width=6, width=16)
    text, fps = torch.randn(1, 4, 6), torch.tensor([8.0])
    padded = torch.cat([text, torch.zeros(1, 3, 6)], dim=1)
    torch.testing.assert_close(embedding(3, fps, text), embedding(3, fps, padded))
    assert not torch.allclose(embedding(3, fps, text), embedding(3, 2 * fps, text))


def test_only_the_direction_of_the_summed_text_counts() -> None:
    embedding = FrameTextEmbedding(8, text_width=6, width=16)
    word, fps = torch.randn(1, 1, 6), torch.tensor([8.0])
    scaled = embedding(3, fps, 100 * word)
    # The norm removes the scale of the sum and keeps its direction.
    torch.testing.assert_close(embedding(3, fps, word), scaled, atol=1e-4, rtol=1e-3)
    assert (embedding(3, fps, -word) - scaled).abs().max() > 1e-2


@pytest.mark.parametrize("num_frames", [2, 3, 8])
def test_time_runs_about_the_middle_of_the_clip(num_frames: int) -> None:
    embedding = FrameTextEmbedding(8, text_width=6, width=16)
    text, fps = torch.randn(1, 4, 6), torch.tensor([8.0])
    clip, longer = embedding(num_frames, fps, text), embedding(num_frames + 2, fps, text)
    torch.testing.assert_close(longer[:, 1:-1], clip)
    assert (clip[:, 0] - clip[:, -1]).abs().max() > 1e-3


def place_embedding(channels: int = 5, embedding_dim: int = 7) -> tuple[PlaceEmbedding, torch.Tensor]:
    """A place embedding, and the embeddings of three frames."""
    return PlaceEmbedding(channels, embedding_dim), torch.randn(3, embedding_dim)


def test_places_mean_the_same_at_every_resolution() -> None:
    embedding, frames = place_embedding()
    coarse, fine = embedding(torch.zeros(3, 5, 2, 4), frames), embedding(torch.zeros(3, 5, 6, 12), frames)
    # The centre of every 3 x 3 patch of the fine grid is a position of the coarse grid.
    torch.testing.assert_close(fine[..., 1::3, 1::3], coarse, atol=1e-5, rtol=1e-4)
    assert len(torch.unique(fine.flatten(2), dim=2)[0, 0]) == 6 * 12


def test_places_are_added_to_the_features() -> None:
    embedding, frames = place_embedding()
    x = torch.randn(3, 5, 4, 4)
    added = embedding(x, frames) - x
    torch.testing.assert_close(added, embedding(torch.zeros(3, 5, 4, 4), frames), atol=1e-5, rtol=1e-4)
    assert added.std() > 1e-2


def test_each_frame_has_its_own_map() -> None:
    embedding, frames = place_embedding()
    nothing = torch.zeros(3, 5, 4, 4)
    together = embedding(nothing, frames)
    assert (together[0] - together[1]).abs().max() > 1e-3
    alone = torch.cat([embedding(nothing[[index]], frames[[index]]) for index in range(3)])
    torch.testing.assert_close(together, alone)
    # The difference varies over the frame; it is not a constant.
    assert (together[0] - together[1]).std(dim=(1, 2)).max() > 1e-3


def test_place_and_direction_act_together_from_the_first_step() -> None:
    """The waves span all maps, so a blob at any position is linear in the weights; no product has to be learned."""
    waves = _waves(4, 4, torch.device("cpu")).flatten(1)
    assert torch.linalg.matrix_rank(waves) == 16


def test_places_keep_their_precision_in_half_precision() -> None:
    embedding, frames = place_embedding()
    wanted = embedding(torch.zeros(3, 5, 8, 8), frames)
    embedding.to(torch.bfloat16)
    got = embedding(torch.zeros(3, 5, 8, 8, dtype=torch.bfloat16), frames.bfloat16())
    assert got.dtype == torch.bfloat16
    torch.testing.assert_close(got.float(), wanted, atol=0.05, rtol=0.05)
