"""Images of any shape fill the frame."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from videocrafter.media.framing import Framing, frame_image

LENGTHS = st.integers(1, 60)
PLACES = st.floats(0, 1)


@given(height=LENGTHS, width=LENGTHS, wanted=st.tuples(LENGTHS, LENGTHS), x=PLACES, y=PLACES)
def test_every_picture_fills_every_frame_without_bars(height, width, wanted, x, y):
    framed = frame_image(
        np.full((height, width, 3), 90, np.uint8), Framing(height=wanted[0], width=wanted[1], x=x, y=y)
    )
    assert framed.shape == (*wanted, 3)
    assert (framed == 90).all()


def test_nothing_is_stretched_and_only_the_long_side_is_cut():
    assert Framing(height=32, width=32).filling_size(64, 128) == (32, 64)
    assert Framing(height=32, width=64).filling_size(100, 50) == (128, 64)


def test_the_part_that_is_asked_for_stays():
    picture = np.repeat(np.arange(8, dtype=np.uint8)[None, :, None], 4, axis=0).repeat(3, axis=2)

    def columns(**where: float) -> list[int]:
        return frame_image(picture, Framing(height=4, width=4, **where))[0, :, 0].tolist()

    assert columns(x=0.0) == [0, 1, 2, 3]
    assert columns() == [2, 3, 4, 5]
    assert columns(x=1.0) == [4, 5, 6, 7]
    assert columns(x=0.0, flip=True) == [3, 2, 1, 0]
