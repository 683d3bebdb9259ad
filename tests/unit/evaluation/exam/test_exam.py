import errno
import json
import math
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, DDPMScheduler

from videocrafter.evaluation.exam.exam import ExamConfig, run_exam
from videocrafter.evaluation.exam.judging import SHIPPED_JUDGE, judge_videos, load_judge, mark
from videocrafter.evaluation.exam.parts import other_pictures
from videocrafter.evaluation.exam.questions import ExamWorld, Questions
from videocrafter.evaluation.exam.tables import remarks
from videocrafter.media import atomic_write
from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.models.judge import VideoJudge
from videocrafter.pipelines.feature_cache import FeatureCache

CONFIG = ExamConfig(
    num_prompts=14,
    num_speed_prompts=18,
    num_images=6,
    num_variety_prompts=2,
    num_variety_seeds=2,
    batch_size=5,
)


@dataclass
class Defaults:
    num_frames: int = 4
    height: int = 32
    width: int = 32


class PerfectModel:
    """Returns the real clip of each question of an exam, or its first frame repeated."""

    def __init__(self, config: ExamConfig, *, frozen: bool = False) -> None:
        world = config.world or ExamWorld()
        questions = Questions(world, config.seed)
        everything = [
            *questions.text(config.num_prompts, config.fps),
            *questions.speed(config.num_speed_prompts),
            *questions.variety(config.num_variety_prompts, config.num_variety_seeds, config.fps),
            *(one for kind in questions.image(config.num_images, config.fps) for one in kind),
        ]
        self._scripts = {(one.prompt, one.seed): one.script for one in everything}
        self.generation_defaults = Defaults()
        self._world = world.world(num_frames=4, height=32, width=32)
        self._frozen = frozen
        self.batches: list[int] = []
        self.stops_after: int | None = None
        self.scheduler: Any = None
        self.feature_cache: FeatureCache | None = None

    def __call__(self, *, prompt: list[str], seeds: list[int], fps: list[float], **rest: Any) -> SimpleNamespace:
        scripts = [self._scripts[key] for key in zip(prompt, seeds, strict=True)]
        assert [script.fps for script in scripts] == fps
        assert rest["output_type"] == "pt"
        if len(self.batches) == self.stops_after:
            raise KeyboardInterrupt
        self.batches.append(len(prompt))
        clips = self._world.render(scripts)
        if "image" in rest:
            torch.testing.assert_close(torch.stack(rest["image"]) * 2 - 1, clips[:, 0])
        shown = clips[:, :1].expand_as(clips) if self._frozen else clips
        return SimpleNamespace(frames=(shown + 1) / 2)


def untrained_judge() -> VideoJudge:
    world = ExamWorld()
    return VideoJudge(
        subjects=list(world.subjects),
        motions=list(world.motions),
        scenes=list(world.scenes),
        widths=(8, 8, 8, 8),
    ).eval()


def test_a_perfect_model_scores_what_the_judge_scores_on_real_clips(tmp_path) -> None:
    model, progress = PerfectModel(CONFIG), []
    report = run_exam(
        tmp_path, model, model, config=CONFIG, judge=untrained_judge(), on_progress=lambda *x: progress.append(x)
    )
    for what in ("subject", "motion", "scene", "all"):
        assert report[f"{what}_accuracy"] == report[f"real_{what}_accuracy"]
    # Up to rounding to eight bits.
    assert report["speed_correlation"] == pytest.approx(report["real_speed_correlation_by_judge"], abs=0.02)
    assert report["variety"] == pytest.approx(report["real_variety"], rel=1e-3)
    assert report["variety"] > 0.0
    assert report["sharpness_ratio"] == pytest.approx(1.0, abs=0.01)
    assert report["edge_energy_ratio"] == pytest.approx(1.0, abs=0.01)
    assert report["still_flicker"] == 0.0
    assert report["i2v_image_distance"] < 0.005 < report["i2v_shuffled_distance"]
    assert report["i2v_image_dissimilarity"] < 0.005 < report["i2v_shuffled_dissimilarity"]
    assert report["num_videos"] == 14 + 18 + 4 + 2 * 6 == sum(model.batches)
    assert progress[-1] == (48, 48)
    assert max(model.batches) == 5


def test_the_folder_holds_the_report_the_answers_and_the_sheets(tmp_path) -> None:
    report = run_exam(tmp_path / "new", PerfectModel(CONFIG), config=CONFIG, judge=untrained_judge())
    saved = json.loads((tmp_path / "new" / "report.json").read_text())
    assert saved["subject_accuracy"] == report["subject_accuracy"]
    assert saved["settings"]["world"]["position_jitter"] == 0.12
    assert len(saved["models"]["judge"]["weights_sha256"]) == len(saved["protocol"]["sha256"]) == 64
    assert sum(row["count"] for row in saved["per"]["motion"].values()) == 14
    answers = [json.loads(line) for line in (tmp_path / "new" / "answers.jsonl").read_text().splitlines()]
    assert [one["part"] for one in answers].count("speed") == 18
    wrong = sum(one["asked"][1] != one["seen"][1] for one in answers if one["part"] == "text")
    assert wrong == sum(count for _, _, count in report["confusions"]["motion"])
    low, high = (saved["intervals"]["motion_accuracy"][bound] for bound in ("low", "high"))
    assert low <= saved["motion_accuracy"] <= high
    assert saved["intervals"]["speed_correlation"]["num_prompts"] == 18
    assert saved["frechet_video_distance"] if "frechet_video_distance" in saved else saved["not_measured"]
    page = (tmp_path / "new" / "report.html").read_text()
    assert 'src="wrong_motion.png"' in page
    assert "edge energy relative to real clips" in page
    assert {"wrong_motion.png", "speed.png", "variety.png"} <= {path.name for path in (tmp_path / "new").iterdir()}
    assert "| motion |" in (tmp_path / "new" / "report.md").read_text()
    assert "i2v_subject_accuracy" not in saved
    folders = {path.name for path in (tmp_path / "new").iterdir() if path.is_dir()}
    assert folders == {"exam_videos"}, "videos/ is left to the other protocols"


def test_an_interrupted_exam_generates_only_what_is_missing(tmp_path) -> None:
    judge, whole, resumed = untrained_judge(), PerfectModel(CONFIG), PerfectModel(CONFIG)
    expected = run_exam(tmp_path / "whole", whole, whole, config=CONFIG, judge=judge)
    resumed.stops_after = 5
    with pytest.raises(KeyboardInterrupt):
        run_exam(tmp_path / "resumed", resumed, resumed, config=CONFIG, judge=judge)
    resumed.stops_after = None
    progress: list[tuple[int, int]] = []
    report = run_exam(
        tmp_path / "resumed", resumed, resumed, config=CONFIG, judge=judge, on_progress=lambda *x: progress.append(x)
    )
    assert sum(resumed.batches) == expected["num_videos"] == 48, "no video twice"
    assert progress[0] == (14, 48), "the first part was finished"
    assert progress[-1] == (48, 48)
    assert (expected["num_videos_found"], report["num_videos_found"]) == (0, 24)
    assert "48 videos, 24 of them from an earlier run, fps 8" in remarks(report)[-1]
    assert remarks(expected)[-1].startswith("48 videos in ")
    for one in (expected, report):
        del one["seconds"], one["num_videos_found"]
    assert report == expected


def test_videos_of_other_settings_are_generated_anew(tmp_path) -> None:
    config = ExamConfig(num_prompts=4, num_speed_prompts=0, num_variety_prompts=0)
    model, judge = PerfectModel(config), untrained_judge()
    run_exam(tmp_path, model, config=config, judge=judge)
    run_exam(tmp_path, model, config=config, judge=judge, overwrite=True)
    assert sum(model.batches) == 4
    other = replace(config, num_inference_steps=7)
    run_exam(tmp_path, model, config=other, judge=judge, overwrite=True)
    assert sum(model.batches) == 8


def test_videos_of_another_scheduler_feature_cache_or_version_are_generated_anew(tmp_path, monkeypatch) -> None:
    config = ExamConfig(num_prompts=4, num_speed_prompts=0, num_variety_prompts=0)
    model, judge = PerfectModel(config), untrained_judge()
    made = []

    def examine() -> dict[str, Any]:
        report = run_exam(tmp_path, model, config=config, judge=judge, overwrite=True)
        made.append(sum(model.batches))
        model.batches.clear()
        return report

    for scheduler in (DDIMScheduler(), DDIMScheduler(), DDIMScheduler(timestep_spacing="trailing"), DDPMScheduler()):
        model.scheduler = scheduler
        report = examine()
    assert made == [4, 0, 4, 4]
    assert report["models"]["t2v"]["scheduler"]["_class_name"] == "DDPMScheduler"
    model.feature_cache = FeatureCache(every=3)
    assert examine()["models"]["t2v"]["feature_cache"]["every"] == 3
    for name in ("_VERSION", "__version__"):
        monkeypatch.setattr(f"videocrafter.evaluation.exam.exam.{name}", "another")
        examine()
    examine()
    assert made[4:] == [4, 4, 4, 0]


def test_a_second_judge_labels_subjects_and_enough_videos_have_a_frechet_distance(tmp_path) -> None:
    config = ExamConfig(num_prompts=56, num_speed_prompts=0, num_variety_prompts=0)
    judge = untrained_judge()
    report = run_exam(tmp_path, PerfectModel(config), config=config, judge=judge, second_judge=judge)
    assert report["second_subject_accuracy"] == report["subject_accuracy"]
    assert report["real_second_subject_accuracy"] == report["real_subject_accuracy"]
    # 24 subjects, 14 motions and 14 scenes are 52 logits.
    assert 0.0 <= report["frechet_video_distance"] < report["real_frechet_video_distance"]
    answer = json.loads((tmp_path / "answers.jsonl").read_text().splitlines()[0])
    assert answer["seen_by_second"] == answer["seen"][0]
    few = replace(config, num_prompts=20)
    report = run_exam(tmp_path, PerfectModel(few), config=few, judge=judge, overwrite=True)
    assert "at least 53 videos" in report["not_measured"]["frechet_video_distance"]
    assert "frechet_video_distance" not in report


def test_the_world_is_that_of_the_judge(tmp_path) -> None:
    judge = untrained_judge()
    judge.register_to_config(diameter=0.56, fps_range=[8.0, 24.0])
    world = ExamWorld.of_judge(judge)
    assert (world.diameter, world.speed_fps) == (0.56, (8.0, 12.0, 16.0, 24.0))
    config = ExamConfig(num_prompts=3, num_speed_prompts=12, num_variety_prompts=0)
    model = PerfectModel(replace(config, world=world))
    report = run_exam(tmp_path, model, config=config, judge=judge)
    assert report["settings"]["world"]["diameter"] == 0.56
    assert report["edge_energy_ratio"] == pytest.approx(1.0, abs=0.01), "real clips have sprites of the same size"


def test_the_batch_size_changes_nothing(tmp_path) -> None:
    judge, reports = untrained_judge(), []
    for size in (1, 7):
        config = ExamConfig(num_prompts=7, num_speed_prompts=0, num_variety_prompts=0, batch_size=size)
        reports.append(run_exam(tmp_path / str(size), PerfectModel(config), config=config, judge=judge))
    for report in reports:
        del report["seconds"], report["settings"]
    assert reports[0] == reports[1]


def test_an_old_report_is_only_replaced_on_request(tmp_path) -> None:
    config = ExamConfig(num_prompts=2, num_speed_prompts=0, num_variety_prompts=0)
    model, judge = PerfectModel(config), untrained_judge()
    run_exam(tmp_path, model, config=config, judge=judge)
    (tmp_path / "speed.png").write_bytes(b"left over")
    made = len(model.batches)
    with pytest.raises(OutputExistsError, match=r"report\.json"):
        run_exam(tmp_path, model, config=config, judge=judge)
    assert len(model.batches) == made, "refused before any work"
    run_exam(tmp_path, model, config=config, judge=judge, overwrite=True)
    assert not (tmp_path / "speed.png").exists(), "sheets of the previous exam are removed"


def test_a_full_disk_leaves_the_old_report(tmp_path, monkeypatch) -> None:
    config = ExamConfig(num_prompts=2, num_speed_prompts=0, num_variety_prompts=0)
    model, judge = PerfectModel(config), untrained_judge()
    run_exam(tmp_path, model, config=config, judge=judge)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write = atomic_write._write

    def fill(path, content) -> None:
        write(path, content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_write, "_write", fill)
    with pytest.raises(MediaError, match="the disk is full"):
        run_exam(tmp_path, model, config=config, judge=judge, overwrite=True)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_other_pictures_differ_in_subject_and_scene() -> None:
    questions = Questions(ExamWorld(), 0).image(20, 8.0)[1]
    for own, other in enumerate(other_pictures(questions)):
        assert questions[own].script.subject != questions[other].script.subject
        assert questions[own].script.scene != questions[other].script.scene


def test_invalid_arguments_are_refused(tmp_path) -> None:
    with pytest.raises(ValueError, match="t2v and i2v are None"):
        run_exam(tmp_path, None, None)
    with pytest.raises(ValueError, match="num_prompts is 0"):
        ExamConfig(num_prompts=0)
    with pytest.raises(FileNotFoundError, match="contains no judge"):
        load_judge(tmp_path)


shipped = pytest.mark.skipif(not SHIPPED_JUDGE.is_dir(), reason="the judge is not part of this checkout")


@shipped
def test_the_shipped_judge_distinguishes_real_frozen_and_reversed_clips() -> None:
    judge, world = load_judge(), ExamWorld()
    scripts = [one.script for one in Questions(world, 11).text(56, 8.0)]
    clips = world.world(num_frames=8, height=64, width=64).render(scripts)
    marks = mark(judge_videos(judge, clips), scripts)
    assert sum(marks.subject) >= 55
    assert sum(marks.motion) >= 53
    assert sum(marks.scene) >= 55
    frozen = judge_videos(judge, clips[:, :1].expand_as(clips)).motions
    assert frozen.count("still") >= 54, "the judge must recognise motion by movement, not by subject and scene"
    backwards = judge_videos(judge, clips.flip(1)).motions
    turned = {"left": "right", "up": "down", "growing": "shrinking", "up_left": "down_right"}
    asked = [(turned[one.motion], seen) for one, seen in zip(scripts, backwards, strict=True) if one.motion in turned]
    assert sum(expected == seen for expected, seen in asked) >= len(asked) - 1


@shipped
def test_the_exam_detects_a_model_without_motion(tmp_path) -> None:
    config = replace(CONFIG, world=ExamWorld.of_judge(load_judge()))
    moving = run_exam(tmp_path / "moving", PerfectModel(config), config=config)
    frozen = run_exam(tmp_path / "frozen", PerfectModel(config, frozen=True), config=config)
    assert moving["speed_correlation"] > 0.95
    assert not frozen["speed_correlation"] > 0.5
    assert frozen["subject_accuracy"] >= 0.9
    assert frozen["motion_accuracy"] <= 0.2 < 0.8 <= moving["motion_accuracy"]
    assert not math.isnan(moving["all_accuracy"])
