import math

import numpy as np
import pytest

from videocrafter.evaluation.study.agreement import krippendorff_alpha

# Krippendorff (2011), section C: four observers, twelve units.
FOUR_OBSERVERS = """
1 2 3 3 2 1 4 1 2 . . .
1 2 3 3 2 2 4 1 2 5 . 3
. 3 3 3 2 3 4 2 2 5 1 .
1 2 3 3 2 4 4 1 2 5 1 .
"""
# The example of Wikipedia's article and of the package krippendorff: three coders, fifteen units.
THREE_CODERS = """
. . . . . 3 4 1 2 1 1 3 3 . 3
1 . 2 1 3 3 4 3 . . . . . . .
. . 2 1 3 4 4 . 2 1 1 3 3 . 4
"""


def table(text):
    return np.array(
        [[math.nan if cell == "." else float(cell) for cell in row.split()] for row in text.split("\n") if row]
    )


@pytest.mark.parametrize(
    ("text", "level", "expected"),
    [
        (FOUR_OBSERVERS, "nominal", 0.743),
        (FOUR_OBSERVERS, "ordinal", 0.815),
        (FOUR_OBSERVERS, "interval", 0.849),
        (THREE_CODERS, "nominal", 0.691),
        (THREE_CODERS, "interval", 0.811),
    ],
)
def test_published_examples(text, level, expected):
    assert krippendorff_alpha(table(text), level) == pytest.approx(expected, abs=0.0006)


def test_what_says_nothing_is_nan():
    assert math.isnan(krippendorff_alpha(np.full((2, 3), 4.0), "nominal"))
    assert math.isnan(krippendorff_alpha(np.array([[1.0, math.nan], [math.nan, 2.0]]), "ordinal"))
