from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor

from videocrafter.data.sprite_world.captions import MOTION_PHRASES, SCENE_PHRASES
from videocrafter.data.sprite_world.world import SceneScript, SpriteWorld, SpriteWorldConfig
from videocrafter.training.miniature.gauges import (
    OPPOSITE_GAUGES,
    gauge_names,
    gauge_scripts,
    wrong_image_gauge,
    wrong_word_gauges,
)

COUNT = 30
WORLD = SpriteWorld(SpriteWorldConfig(height=16, width=16, split="all", seed=3))
SCRIPTS = gauge_scripts(WORLD, COUNT)
ATTRIBUTES = ("subject", "motion", "scene")


def says(caption: str, script: SceneScript, attribute: str) -> bool:
    """Whether a caption names the clip's own subject, motion or scene."""
    phrases = {
        "subject": (script.subject,),
        "motion": MOTION_PHRASES[script.motion],
        "scene": SCENE_PHRASES[script.scene],
    }[attribute]
    return any(f" {phrase} " in f" {caption} " for phrase in phrases)


def rigged(reads: Callable[[SceneScript, str], bool]) -> Callable[[Sequence[int], Sequence[str]], Tensor]:
    """A network whose loss doubles if the caption is wrong; its base loss differs between clips."""

    def loss(indices: Sequence[int], captions: Sequence[str]) -> Tensor:
        pairs = zip(indices, captions, strict=True)
        return torch.tensor(
            [(1.0 + index % 3) * (1.0 if reads(SCRIPTS[index], said) else 2.0) for index, said in pairs]
        )

    return loss


def test_a_network_that_ignores_the_text_has_gauges_of_zero() -> None:
    scores = wrong_word_gauges(WORLD, SCRIPTS, COUNT, rigged(lambda script, caption: True))
    assert set(scores) == {"loss", *(f"gauge_{name}" for name in (*ATTRIBUTES, *OPPOSITE_GAUGES))}
    assert all(value == 0 for name, value in scores.items() if name != "loss")
    assert scores["loss"] == pytest.approx(sum(1.0 + index % 3 for index in range(COUNT)) / COUNT)


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_a_network_that_reads_one_attribute_shows_it_in_that_gauge_alone(attribute: str) -> None:
    scores = wrong_word_gauges(WORLD, SCRIPTS, COUNT, rigged(lambda script, said: says(said, script, attribute)))
    assert scores[f"gauge_{attribute}"] == pytest.approx(100.0)
    for other in set(ATTRIBUTES) - {attribute}:
        assert scores[f"gauge_{other}"] == 0
    for pair in OPPOSITE_GAUGES:
        assert scores[f"gauge_{pair}"] == (pytest.approx(100.0) if attribute == "motion" else 0)


@pytest.mark.parametrize("pair", OPPOSITE_GAUGES)
def test_each_pair_of_opposites_has_its_own_gauge(pair: str) -> None:
    def reads(script: SceneScript, caption: str) -> bool:
        return script.motion not in OPPOSITE_GAUGES[pair] or says(caption, script, "motion")

    scores = wrong_word_gauges(WORLD, SCRIPTS, COUNT, rigged(reads))
    assert scores[f"gauge_{pair}"] == pytest.approx(100.0)
    assert all(scores[f"gauge_{other}"] == 0 for other in set(OPPOSITE_GAUGES) - {pair})


def test_a_network_that_knows_the_axis_only_has_no_gauge_of_direction() -> None:
    axes = {motion: pair for pair, motions in OPPOSITE_GAUGES.items() for motion in motions}

    def reads(script: SceneScript, caption: str) -> bool:
        axis = [
            motion for motion in MOTION_PHRASES if axes.get(motion, motion) == axes.get(script.motion, script.motion)
        ]
        phrases = [phrase for motion in axis for phrase in MOTION_PHRASES[motion]]
        return any(f" {phrase} " in f" {caption} " for phrase in phrases)

    scores = wrong_word_gauges(WORLD, SCRIPTS, COUNT, rigged(reads))
    assert scores["gauge_motion"] > 50
    assert scores["gauge_left_right"] == scores["gauge_up_down"] == scores["gauge_size"] == 0


def test_the_clips_of_each_pair_follow_the_first_ones() -> None:
    assert SCRIPTS[:COUNT] == [WORLD.script(index) for index in range(COUNT)]
    assert gauge_scripts(WORLD, COUNT) == SCRIPTS
    rest = SCRIPTS[COUNT:]
    assert len(rest) == 24 * len(OPPOSITE_GAUGES)
    for place, motions in enumerate(OPPOSITE_GAUGES.values()):
        assert {script.motion for script in rest[24 * place : 24 * (place + 1)]} == set(motions)
    assert not set(rest) & set(SCRIPTS[:COUNT])


def test_a_world_without_a_pair_has_no_gauge_of_it() -> None:
    world = SpriteWorld(SpriteWorldConfig(height=16, width=16, motions=("left", "right", "spinning"), split="all"))
    scripts = gauge_scripts(world, 5)
    assert len(scripts) == 5 + 5, "a small gauge has small groups"
    scores = wrong_word_gauges(world, scripts, 5, lambda indices, captions: torch.ones(len(captions)))
    assert {name for name in scores if name.removeprefix("gauge_") in OPPOSITE_GAUGES} == {"gauge_left_right"}
    assert gauge_names(world, scripts, 5) == list(scores)


def test_a_wrong_caption_goes_with_its_own_clip() -> None:
    """Otherwise the loss would differ by clip and noise, not by the word alone."""

    def loss(indices: Sequence[int], captions: Sequence[str]) -> Tensor:
        for index, caption in zip(indices, captions, strict=True):
            right = sum(says(caption, SCRIPTS[index], attribute) for attribute in ATTRIBUTES)
            assert right == (3 if caption == SCRIPTS[index].caption else 2)
        return torch.ones(len(captions))

    wrong_word_gauges(WORLD, SCRIPTS, COUNT, loss)


@pytest.mark.parametrize(("looks", "rise"), [(False, 0.0), (True, 50.0)])
def test_the_image_gauge_is_the_rise_with_another_clips_image(looks: bool, rise: float) -> None:
    def loss(shown: Sequence[int]) -> Tensor:
        return torch.tensor([1.5 if looks and image != clip else 1.0 for clip, image in enumerate(shown)])

    assert wrong_image_gauge(5, loss) == pytest.approx(rise)
