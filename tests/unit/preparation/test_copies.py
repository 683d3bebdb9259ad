"""Copies are found among many clips without comparing all pairs."""

import numpy as np

from videocrafter.preparation.copies import copy_groups


def test_copies_are_found_among_many_clips_and_nothing_else():
    random = np.random.default_rng(0)
    clips = [
        {
            "id": f"{n:05d}",
            "source": str(n),
            "shot": str(n),
            "hashes": [f"{random.integers(2**63):016x}" for _ in range(3)],
        }
        for n in range(2000)
    ]
    expected = []
    for n in range(0, 400, 4):
        near = [
            f"{int(digits, 16) ^ int(sum(1 << int(b) for b in random.choice(64, 5, replace=False))):016x}"
            for digits in clips[n]["hashes"]
        ]
        clips.append({"id": f"copy{n}", "source": "x", "shot": f"x{n}", "hashes": near})
        expected.append(sorted([f"{n:05d}", f"copy{n}"]))
    assert copy_groups(clips, 6) == sorted(expected)


def test_many_equal_pictures_are_one_group():
    clips = [{"id": f"{n:05d}", "source": str(n), "shot": str(n), "hashes": ["0" * 16] * 3} for n in range(3000)]
    assert [len(group) for group in copy_groups(clips, 6)] == [3000]
