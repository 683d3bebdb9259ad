"""The world is seeded, balanced and consistent with its captions, and separates held-out combinations."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch

from videocrafter.data.sprite_world.world import (
    MOTIONS,
    OPPOSITES,
    PLAIN_SCENES,
    SCENES,
    SPEEDS,
    SUBJECTS,
    SpriteWorld,
    SpriteWorldConfig,
    held_out_combinations,
    is_held_out,
)


def world(**changes: object) -> SpriteWorld:
    return SpriteWorld(SpriteWorldConfig(height=16, width=16, **changes))  # type: ignore[arg-type]


def test_scripts_are_a_function_of_seed_and_index() -> None:
    first, second = world(), world()
    assert second.script(5) == first.script(5)  # independent of earlier calls
    assert [first.script(i) for i in range(20)] == [second.script(i) for i in range(20)]
    assert first.script(5) != first.script(6)
    assert world(seed=1).script(5) != first.script(5)
    assert first.image_script(5) != first.script(5)


def test_rendering_is_repeatable_and_independent_of_the_batch() -> None:
    source = world()
    scripts = [source.script(i) for i in range(6)]
    together = source.render(scripts)
    assert together.shape == (6, 8, 3, 16, 16)
    assert together.dtype == torch.float32
    assert together.min() >= -1 - 1e-5
    assert together.max() <= 1 + 1e-5
    torch.testing.assert_close(together[4:5], world().render([scripts[4]]))


def test_every_name_occurs_about_as_often_as_the_others() -> None:
    source = world()
    scripts = [source.script(i) for i in range(7000)]
    for attribute, names in (("subject", SUBJECTS), ("motion", MOTIONS), ("scene", SCENES)):
        counts = Counter(getattr(script, attribute) for script in scripts)
        assert set(counts) == set(names)
        assert min(counts.values()) > 0.6 * len(scripts) / len(names)
    assert set(Counter(script.speed for script in scripts)) == set(SPEEDS)
    assert len({script.caption for script in scripts}) > 5000


def test_a_motion_that_is_named_twice_occurs_twice_as_often() -> None:
    source = world(motions=("left", "bouncing", "bouncing"))
    counts = Counter(source.script(i).motion for i in range(3000))
    assert counts["bouncing"] / counts["left"] == pytest.approx(2, rel=0.2)


def test_fps_is_whole_in_range_and_even_in_logarithm() -> None:
    source = world(fps_range=(4.0, 24.0))
    fps = np.array([source.script(i).fps for i in range(2000)])
    assert (fps == fps.round()).all()
    assert (fps.min(), fps.max()) == (4, 24)
    assert abs(np.mean(fps < 96**0.5) - 0.5) < 0.06  # the geometric mean of 4 and 24


def test_training_never_shows_what_is_held_out() -> None:
    for split, expected in (("train", {False}), ("held_out", {True}), ("all", {False, True})):
        source = world(split=split)
        for script_of in (source.script, source.image_script):
            scripts = [script_of(i) for i in range(500)]
            assert {is_held_out(s.subject, s.motion, s.scene) for s in scripts} == expected


def test_the_list_of_what_is_held_out_is_up_to_date() -> None:
    text = (files("videocrafter.assets") / "sprites" / "held_out.txt").read_text(encoding="utf-8")
    listed = [tuple(line.split(" | ")) for line in text.splitlines()]
    assert listed == list(held_out_combinations())
    share = len(listed) / (len(SUBJECTS) * len(MOTIONS) * len(SCENES + PLAIN_SCENES))
    assert 0.08 < share < 0.12


def test_held_out_motions_cannot_be_predicted_from_subject_and_scene() -> None:
    """For no subject or scene is a motion always or never held out."""
    for names, of in ((SUBJECTS, 0), (SCENES + PLAIN_SCENES, 2)):
        counts = Counter((combination[of], combination[1]) for combination in held_out_combinations())
        others = len(SCENES + PLAIN_SCENES) if of == 0 else len(SUBJECTS)
        assert max(counts.values()) < 0.5 * others
        assert len(counts) > 0.8 * len(names) * len(MOTIONS)


def test_parts_of_the_world() -> None:
    source = world(subjects=SUBJECTS[:3], motions=("left", "right"), scenes=PLAIN_SCENES)
    scripts = [source.script(i) for i in range(200)]
    assert {script.subject for script in scripts} == set(SUBJECTS[:3])
    assert {script.motion for script in scripts} == {"left", "right"}
    assert {script.scene for script in scripts} <= set(PLAIN_SCENES)
    assert source.scenes == PLAIN_SCENES


def test_the_scene_is_the_same_at_32_and_64_pixels() -> None:
    small, large = (SpriteWorld(SpriteWorldConfig(height=side, width=side)) for side in (32, 64))
    scripts = [small.script(i) for i in range(8)]
    assert scripts == [large.script(i) for i in range(8)]
    np.testing.assert_array_equal(small.centers(scripts), large.centers(scripts))
    halved = torch.nn.functional.avg_pool2d(large.render(scripts).flatten(0, 1), 2)
    assert (halved - small.render(scripts).flatten(0, 1)).abs().mean() < 0.03


def test_rendered_sprites_move_as_centers_says() -> None:
    source = SpriteWorld(SpriteWorldConfig(scenes=PLAIN_SCENES, split="all"))
    script = replace(
        source.script(0), subject="ghost", motion="right", speed="fast", fps=8.0, scene="black background"
    )
    empty = source.render([replace(script, middle_x=9.0)])[0, 0]
    difference = (source.render([script])[0] - empty).abs().sum(1)
    columns = (torch.arange(64) + 0.5) / 32 - 1
    seen = (difference.sum(1) * columns).sum(1) / difference.sum((1, 2))
    expected = source.centers([script])[0, :, 0]
    np.testing.assert_allclose(np.diff(seen.numpy()), np.diff(expected), atol=0.01)


def test_clips_of_another_length_keep_their_speed() -> None:
    source = world()
    script = replace(source.script(0), motion="left", speed="slow", fps=10.0)
    for frames in (2, 8, 24):
        centers = source.centers([script], num_frames=frames)
        assert centers.shape == (1, frames, 2)
        np.testing.assert_allclose(np.diff(centers[0, :, 0]), -0.04)
    assert source.render([script], num_frames=3).shape[1] == 3


def test_sprites_are_as_large_as_the_config_says() -> None:
    usual, larger = (SpriteWorld(SpriteWorldConfig(diameter=diameter)) for diameter in (0.42, 0.56))
    for index in range(5):
        script = larger.script(index)
        assert script.diameter == pytest.approx(usual.script(index).diameter * 0.56 / 0.42)
        assert 0.56 * 0.92 <= script.diameter <= 0.56 * 1.08


def test_images_show_one_moment_of_a_clip() -> None:
    source = world()
    scripts = [source.image_script(i) for i in range(300)]
    assert source.render(scripts[:5]).shape == (5, 1, 3, 16, 16)
    moments = [script.image_frame for script in scripts if script.image_frame is not None]
    assert len(moments) == 300
    assert min(moments) < 1
    assert 6 < max(moments) <= 7
    # An image at frame 3 is frame 3 of its clip.
    clip = source.script(1)
    torch.testing.assert_close(source.render([replace(clip, image_frame=3.0)])[:, 0], source.render([clip])[:, 3])


def test_sizes_follow_growth() -> None:
    source = world()
    sizes = source.sizes([replace(source.script(0), motion="growing", speed="fast", fps=4.0)])
    assert sizes.shape == (1, 8)
    assert (np.diff(sizes) > 0).all()


@pytest.mark.parametrize("attribute", ["subject", "motion", "opposite", "scene"])
def test_a_counterfactual_changes_one_thing_only(attribute: str) -> None:
    source, rng = world(), np.random.default_rng(0)
    made = 0
    for index in range(300):
        script = source.script(index)
        wrong = source.counterfactual(script, attribute, rng)  # type: ignore[arg-type]
        if wrong is None:
            assert attribute == "opposite"
            assert script.motion not in OPPOSITES
            continue
        made += 1
        assert wrong != script.caption
        assert (script.subject in wrong.split()) == (attribute != "subject")
        if attribute != "scene" and script.scene != "forest":
            assert script.scene in wrong
        if attribute in ("subject", "opposite"):
            differing = sum(a != b for a, b in zip(wrong.split(), script.caption.split(), strict=True))
            assert differing <= 2
    assert made > 100


def test_a_counterfactual_stays_within_the_part_of_the_world() -> None:
    source, rng = world(subjects=("cat", "rocket"), motions=("left", "up", "down")), np.random.default_rng(0)
    for index in range(50):
        script = source.script(index)
        other = "cat" if script.subject == "rocket" else "rocket"
        wrong = source.counterfactual(script, "subject", rng)
        assert wrong is not None
        assert other in wrong.split()


def test_counterfactuals_that_do_not_exist() -> None:
    rng = np.random.default_rng(0)
    source = world(subjects=("cat",))
    assert source.counterfactual(source.script(0), "subject", rng) is None
    assert source.counterfactual(source.image_script(0), "motion", rng) is None
    assert source.counterfactual(source.image_script(0), "scene", rng) is not None
    with pytest.raises(ValueError, match=r"'colour'.*subject"):
        source.counterfactual(source.script(0), "colour", rng)  # type: ignore[arg-type]


def test_batches() -> None:
    source = world()
    clips, images = source.batch([3, 4]), source.batch([3, 4], images=True)
    assert clips.captions == (source.script(3).caption, source.script(4).caption)
    assert clips.fps.tolist() == [source.script(3).fps, source.script(4).fps]
    assert (clips.num_frames, images.num_frames) == (8, 1)
    assert len(set(clips.keys + images.keys)) == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": ("cat", "unicorn")}, "'unicorn', expected some of rocket"),
        ({"motions": ()}, "motions is empty"),
        ({"scenes": ("moon",)}, "'moon'.*blue sky"),
        ({"num_frames": 0}, "frames are 64, 64 and 0, expected 1 or more"),
        ({"fps_range": (8.0, 4.0)}, "fps_range"),
        ({"position_jitter": -0.1}, "position_jitter"),
        ({"diameter": 0.1}, r"diameter is 0.1, expected 0.12 to 0.95"),
        ({"split": "test"}, "split is 'test', expected"),
        ({"seed": -1}, "seed"),
    ],
)
def test_invalid_configs_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SpriteWorldConfig(**changes)  # type: ignore[arg-type]


def test_an_empty_part_of_the_world() -> None:
    subject, motion, scene = next(held_out_combinations())
    with pytest.raises(ValueError, match="'train'"):
        world(subjects=(subject,), motions=(motion,), scenes=(scene,))


def test_invalid_calls_are_refused() -> None:
    source = world(subjects=("cat",))
    clip, image = source.script(0), source.image_script(0)
    with pytest.raises(ValueError, match="mix clips and images"):
        source.render([clip, image])
    with pytest.raises(ValueError, match="mix clips and images"):
        source.render([])
    with pytest.raises(ValueError, match="num_frames is 8, expected 1"):
        source.render([image], num_frames=8)
    with pytest.raises(ValueError, match="num_frames is 0, expected 1"):
        source.render([clip], num_frames=0)
    with pytest.raises(ValueError, match="'rocket'"):
        source.render([replace(clip, subject="rocket")])
    with pytest.raises(ValueError, match="index is -1, expected 0 or more"):
        source.script(-1)
