"""A recipe drops clips by floors, copies and shares, in that order, and gives the same result for the same rows."""

from dataclasses import replace

import numpy as np
import pytest

from videocrafter.preparation.config import SelectConfig, Shares
from videocrafter.preparation.select import select

NO_SHARES = replace(
    SelectConfig(), shares=Shares(least_motion=0, little_motion=0, most_shake=0, most_blur=0), validation=0.0
)


def clip(number: int, **scores) -> dict:
    random = np.random.default_rng(number)
    return {
        "id": f"{number:04d}",
        "source": f"s{number:04d}",
        "shot": f"s{number}-0",
        "start_s": 0.0,
        "seconds": 4.0,
        "frames": 96,
        "damaged": 0.0,
        "bits_per_pixel": 0.1,
        "picture": 1.0,
        "blank": 0.0,
        "frozen": 0.0,
        "luma": 120.0,
        "false_cuts_per_s": 0.0,
        "motion": random.uniform(0.01, 0.2),
        "shake": random.uniform(0, 0.1),
        "sharpness": random.uniform(50, 200),
        "hashes": [f"{random.integers(2**63):016x}" for _ in range(3)],
        "source_width": 640,
        "source_height": 360,
        **scores,
    }


def reasons(rows, config=NO_SHARES, seed=0) -> dict[str, str]:
    return {row["id"]: row["reason"] for row in select(rows, config, seed).rows if row["reason"]}


@pytest.mark.parametrize(
    ("scores", "reason"),
    [
        ({"frozen": 0.51}, "frozen"),
        ({"blank": 0.2}, "blank"),
        ({"luma": 10.0}, "dark"),
        ({"luma": 240.0}, "overexposed"),
        ({"false_cuts_per_s": 1.0}, "jumps"),
        ({"bits_per_pixel": 0.01}, "low_bit_rate"),
        ({"picture": 0.5}, "bars"),
        ({"frames": 15}, "few_frames"),
        ({"damaged": 0.01}, "damaged"),
    ],
)
def test_each_floor_drops_its_clip_only(scores, reason):
    assert reasons([clip(1), clip(2, **scores), clip(3)]) == {"0002": reason}


def test_the_larger_copy_is_kept_and_the_smaller_named():
    hashes = clip(1)["hashes"]
    near = [f"{int(digits, 16) ^ 0b1011:016x}" for digits in hashes]
    rows = [clip(1, source_width=320, source_height=180), clip(2, hashes=near), clip(3)]
    found = select(rows, NO_SHARES, 0)
    assert {row["id"]: (row["reason"], row["copy_of"]) for row in found.rows if row["reason"]} == {
        "0001": ("copy", "0002")
    }
    assert found.groups == [["0002", "0001"]]


def test_parts_of_one_shot_are_no_copies():
    rows = [clip(1), clip(2, hashes=clip(1)["hashes"], shot=clip(1)["shot"], source=clip(1)["source"])]
    assert reasons(rows) == {}


def test_shares_drop_the_worst_end_and_finetune_drops_twice_as_much():
    rows = [clip(number, motion=number / 100, shake=0.0, sharpness=100.0) for number in range(1, 101)]
    config = replace(NO_SHARES, shares=Shares(little_motion=0))
    assert set(reasons(rows, config)) == {f"{number:04d}" for number in range(1, 11)}
    assert len(reasons(rows, replace(config, level="finetune"))) == 20


def test_half_of_the_little_motion_is_kept():
    rows = [clip(number, motion=number / 400, shake=0.0, sharpness=100.0) for number in range(1, 401)]
    config = replace(NO_SHARES, shares=Shares(least_motion=0, little_motion=0.4))
    found = reasons(rows, config)
    assert set(found.values()) == {"little_motion"}
    assert 60 <= len(found) <= 100


def test_shares_are_not_applied_to_a_few_clips():
    assert reasons([clip(number) for number in range(19)], SelectConfig()) == {}


def test_the_result_does_not_depend_on_the_order_of_the_rows():
    rows = [clip(number) for number in range(60)]
    one, other = select(rows, SelectConfig(), 0), select(rows[::-1], SelectConfig(), 0)
    assert one == other
    assert one != select(rows, SelectConfig(), 1)


def test_the_split_follows_the_source():
    rows = [clip(number, source=f"s{number % 10}", start_s=float(number)) for number in range(100)]
    found = select(rows, replace(NO_SHARES, validation=0.3), 0).rows
    splits = {source: {row["split"] for row in found if row["source"] == source} for source in {"s1", "s2", "s3"}}
    assert all(len(split) == 1 for split in splits.values())
    assert {row["split"] for row in found} == {"train", "validation"}


def test_the_steps_account_for_every_clip():
    rows = [clip(number) for number in range(80)] + [clip(100, frozen=1.0)]
    found = select(rows, SelectConfig(), 0)
    remaining = len(rows)
    for step in found.steps:
        remaining -= step.dropped
        assert step.remaining == remaining
    assert remaining == sum(row["kept"] for row in found.rows) > 50
