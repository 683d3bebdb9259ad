import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.models.autoencoder import encode_video
from videocrafter.pipelines.clip import CHUNK, check_clip, decoded_chunks, encode_clip, fit_clip
from videocrafter.pipelines.output import frames_as


def clip(num_frames=5, height=16, width=16):
    return np.random.default_rng(0).integers(0, 256, (num_frames, height, width, 3), np.uint8)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("clip.mp4", "but is str"),
        (clip().astype(float), "divided by 255"),
        (clip().astype(int), "pixels are int64"),
        (clip()[0], r"but is uint8 \[16, 16, 3\]"),
        (clip()[..., :2], r"but is uint8 \[5, 16, 16, 2\]"),
        (clip()[:0], "at least one frame"),
    ],
)
def test_what_is_not_a_clip_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        check_clip(wrong)


def test_a_clip_may_be_the_output_of_a_pipeline():
    np.testing.assert_array_equal(check_clip(clip() / np.float32(255)), clip())


def test_a_clip_of_the_right_size_stays_as_it_is():
    given_clip = clip()
    assert fit_clip(given_clip, 16, 16) is given_clip


@given(st.integers(2, 40), st.integers(2, 40), st.integers(2, 40), st.integers(2, 40))
def test_every_clip_fits_every_size(height, width, new_height, new_width):
    fitted = fit_clip(np.full((CHUNK + 1, height, width, 3), 77, np.uint8), new_height, new_width)
    assert fitted.shape == (CHUNK + 1, new_height, new_width, 3)
    assert (fitted == 77).all()


def test_what_juts_out_is_cut_off_on_both_sides():
    wide = np.zeros((1, 8, 24, 3), np.uint8)
    wide[:, :, :8], wide[:, :, 16:] = (255, 0, 0), (0, 0, 255)
    wide[:, :, 8:16, 1] = np.arange(8) * 30
    np.testing.assert_array_equal(fit_clip(wide, 8, 8), wide[:, :, 8:16])


def test_a_clip_is_encoded_to_the_mean_without_a_draw(t2v):
    frames = clip(CHUNK + 3)
    latents = encode_clip(t2v, frames)
    pixels = torch.from_numpy(frames).permute(0, 3, 1, 2)[None].float() / 127.5 - 1
    with torch.no_grad():
        expected = encode_video(t2v.vae, pixels, sample=False)[0]
    assert latents.shape == (4, CHUNK + 3, 2, 2)
    torch.testing.assert_close(latents, expected)


def test_latents_are_decoded_in_order_and_never_many_at_once(t2v):
    latents = torch.randn(1, 4, 2 * CHUNK + 1, 4, 4)
    chunks = list(decoded_chunks(t2v, latents[0]))
    with torch.no_grad():
        whole = frames_as(t2v.decode_latents(latents), "uint8")[0]
    assert [len(chunk) for chunk in chunks] == [CHUNK, CHUNK, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), whole)
