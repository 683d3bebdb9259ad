import pytest
import torch

from videocrafter.models.judge import (
    IGNORED,
    JudgeLabels,
    VideoJudge,
    expected_place,
    heat_target,
    judge_loss,
)

SUBJECTS, MOTIONS, SCENES = ["cat", "dog", "owl"], ["left", "right"], ["sky", "sea", "city", "wood"]


def small_judge() -> VideoJudge:
    return VideoJudge(
        subjects=SUBJECTS,
        motions=MOTIONS,
        scenes=SCENES,
        widths=(8, 8, 16, 16),
        fused_width=16,
        motion_width=8,
    ).eval()


def labels(batch: int, frames: int) -> JudgeLabels:
    return JudgeLabels(
        subject=torch.arange(batch) % 3,
        motion=torch.arange(batch) % 2,
        scene=torch.arange(batch) % 4,
        centers=torch.rand(batch, frames, 2) - 0.5,
        log_size=torch.full((batch, frames), -1.0),
    )


@pytest.mark.parametrize(("frames", "side"), [(8, 64), (1, 64), (5, 32), (3, 100)])
def test_any_number_and_size_of_frames_can_be_read(frames: int, side: int) -> None:
    reading = small_judge()(torch.rand(2, frames, 3, side, side) * 2 - 1)
    assert reading.subject_logits.shape == (2, 3)
    assert reading.motion_logits.shape == (2, 2)
    assert reading.scene_logits.shape == (2, 4)
    assert reading.centers.shape == (2, frames, 2)
    assert reading.log_size.shape == (2, frames)
    assert reading.features.shape == (2, frames, 32)
    assert float(reading.centers.detach().abs().max()) < 1.0


def test_a_verdict_does_not_depend_on_the_rest_of_the_batch() -> None:
    judge, videos = small_judge(), torch.rand(3, 4, 3, 64, 64)
    torch.testing.assert_close(judge(videos).motion_logits[1:2], judge(videos[1:2]).motion_logits)


def test_motion_is_read_from_the_order_of_the_frames_and_subject_is_not() -> None:
    judge, videos = small_judge(), torch.rand(2, 6, 3, 64, 64)
    forward, backward = judge(videos), judge(videos.flip(1))
    torch.testing.assert_close(forward.subject_logits, backward.subject_logits)
    assert not torch.allclose(forward.motion_logits, backward.motion_logits, atol=1e-5)


def test_it_is_small() -> None:
    judge = VideoJudge(subjects=["s"] * 24, motions=["m"] * 14, scenes=["p"] * 20)
    assert sum(parameter.numel() for parameter in judge.parameters()) < 700_000


def test_expected_place_of_one_cell_is_its_middle() -> None:
    weights = torch.zeros(1, 4, 8)
    weights[0, 3, 0] = 1.0
    torch.testing.assert_close(expected_place(weights), torch.tensor([[-0.875, 0.75]]))


def test_heat_target_sums_to_one_and_lies_at_the_centre() -> None:
    centers = torch.tensor([[[0.3, -0.2], [5.0, 0.0]]])
    target = heat_target(centers, 16, 16)
    torch.testing.assert_close(target.sum(dim=(2, 3)), torch.ones(1, 2))
    torch.testing.assert_close(expected_place(target[0])[0], centers[0, 0], atol=0.01, rtol=0.0)
    assert float(expected_place(target[0])[1, 0]) > 0.8, "a centre outside the frame is drawn at its edge"


def test_learns_a_handful_of_clips() -> None:
    judge, clips, truth = small_judge().train(), torch.rand(4, 3, 3, 64, 64) * 2 - 1, labels(4, 3)
    optimizer = torch.optim.Adam(judge.parameters(), lr=3e-3)
    first, _ = judge_loss(judge, clips, truth)
    for _ in range(60):
        loss, metrics = judge_loss(judge, clips, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert float(loss.detach()) < 0.3 * float(first.detach())
    assert metrics["subject_accuracy"] == metrics["scene_accuracy"] == 1.0


def test_clips_without_motion_teach_no_motion() -> None:
    judge, truth = small_judge(), labels(2, 1)
    still = JudgeLabels(**{**truth.__dict__, "motion": torch.full((2,), IGNORED)})
    loss, metrics = judge_loss(judge, torch.rand(2, 1, 3, 64, 64), still)
    loss.backward()
    assert torch.isfinite(loss)
    assert metrics["motion_accuracy"] != metrics["motion_accuracy"], "no clip has a motion, so there is no accuracy"
    assert float(judge.motion_head.out[-1].weight.grad.abs().sum()) == 0.0


def test_saves_and_loads_with_its_names(tmp_path) -> None:
    judge, videos = small_judge(), torch.rand(1, 2, 3, 64, 64)
    judge.save_pretrained(tmp_path)
    again = VideoJudge.from_pretrained(tmp_path)
    assert list(again.config.scenes) == SCENES
    torch.testing.assert_close(again(videos).subject_logits, judge(videos).subject_logits)


def test_errors_say_what_was_given() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 64, 64\).*\[B, T, 3, H, W\]"):
        small_judge()(torch.rand(2, 3, 64, 64))
    with pytest.raises(ValueError, match=r"60.*multiple of 16"):
        VideoJudge(subjects=SUBJECTS, motions=MOTIONS, scenes=SCENES, size=60)
