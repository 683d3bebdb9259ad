"""A run reports its progress, stops when it is cancelled, and names what is wrong by type."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from videocrafter.generation.errors import (
    GenerationCancelled,
    GenerationError,
    ModelUnavailableError,
    NotEnoughMemoryError,
    NotFiniteError,
)
from videocrafter.generation.request import GenerateOptions, PromptRow
from videocrafter.generation.run import generate, load, prepare
from videocrafter.generation.watcher import Watcher
from videocrafter.media.video_file import read_metadata


class Recorder(Watcher):
    def __init__(self, cancel_after: int | None = None) -> None:
        super().__init__()
        self.cancel_after = cancel_after
        self.steps: list[tuple[int, int]] = []
        self.videos: list[Path] = []

    def after_step(self, step) -> None:
        assert step.estimate.shape[:1] == (1,)
        self.steps.append((step.done, step.total))

    def written(self, video) -> None:
        assert read_metadata(video.path) == video.recording
        self.videos.append(video.path)

    def is_cancelled(self) -> bool:
        return self.cancel_after is not None and len(self.steps) >= self.cancel_after


@pytest.fixture
def options(t2v_folder, tmp_path):
    def build(**changes):
        rows = (PromptRow(prompt="a cat"), PromptRow(prompt="a red car"))
        settings = {"output": tmp_path / "v.gif", "model": str(t2v_folder), "rows": rows, "seed": 1, "num_frames": 2}
        return GenerateOptions(**settings | {"sampling": {"num_inference_steps": 3}} | changes)

    return build


def run(options, watcher):
    prepared = prepare(options)
    pipeline = load(prepared, watcher)
    return generate(prepared, pipeline, watcher)


def test_progress_covers_all_batches_and_every_video_is_reported(options, tmp_path):
    watcher = Recorder()
    paths = run(options(), watcher)
    assert watcher.steps == [(done, 6) for done in range(1, 7)]
    assert paths == watcher.videos == [tmp_path / "v-000.gif", tmp_path / "v-001.gif"]
    assert {"encode", "denoise", "decode", "write"} <= set(watcher.seconds)


def test_settings_that_changed_the_recorded_video_slightly_are_named(options):
    watcher, told = Recorder(), []
    watcher.note = told.append
    load(prepare(options(expected_saving="weights in 8 bits (approximate)")), watcher)
    assert any("weights in 8 bits (approximate); without them the result differs slightly" in one for one in told)
    told.clear()
    load(prepare(options()), watcher)
    assert not told


@pytest.mark.parametrize(("after", "written"), [(0, 0), (1, 0), (4, 1)])
def test_a_cancelled_run_stops_at_the_step_and_keeps_finished_videos(options, tmp_path, after, written):
    watcher = Recorder(cancel_after=after)
    with pytest.raises(GenerationCancelled):
        run(options(), watcher)
    assert len(watcher.steps) == after
    assert len(watcher.videos) == written
    assert len(list(tmp_path.glob("v-*.gif"))) == written


def test_errors_have_a_type_and_a_code(options, tmp_path, i2v_folder):
    for changes, error in (
        ({"model": str(tmp_path)}, ModelUnavailableError),
        ({"model": str(i2v_folder)}, GenerationError),
        ({"height": 30}, GenerationError),
        ({"device": "cuda:77"}, GenerationError),
    ):
        with pytest.raises(GenerationError) as caught:
            run(options(**changes), Recorder())
        assert type(caught.value) is error
    assert not list(tmp_path.glob("v*"))


def test_memory_that_runs_out_and_numbers_that_are_not_finite_are_named(options, monkeypatch):
    watcher = Recorder()
    prepared = prepare(options())
    pipeline = load(prepared, watcher)
    for raised, expected in (
        (torch.OutOfMemoryError("CUDA out of memory"), NotEnoughMemoryError),
        (MemoryError(), NotEnoughMemoryError),
        (FloatingPointError("NaN in step 2"), NotFiniteError),
        (KeyError("a bug"), KeyError),
    ):

        def fail(*_, raised=raised):
            raise raised

        monkeypatch.setattr(pipeline, "encode", fail)
        with pytest.raises(expected):
            generate(prepared, pipeline, watcher)


def test_memory_that_runs_out_while_weights_are_placed_is_named(options, monkeypatch):
    from videocrafter.pipelines.text_to_video import TextToVideoPipeline

    def fail(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(TextToVideoPipeline, "save_memory", fail)
    with pytest.raises(NotEnoughMemoryError):
        load(prepare(options(low_memory=True, ignore_memory=True)), Recorder())


def test_runs_share_a_pipeline_only_if_it_would_be_the_same(options):
    first = prepare(options())
    assert prepare(options(seed=2, height=64)).pipeline_key == first.pipeline_key
    assert prepare(options(scheduler="euler")).pipeline_key != first.pipeline_key
    assert prepare(options(dtype="bfloat16")).pipeline_key != first.pipeline_key


def test_a_loaded_pipeline_is_no_way_around_the_memory_check(options, monkeypatch):
    from videocrafter.generation import memory_check

    prepared = prepare(options())
    pipeline = load(prepared, Recorder())
    weights = sum(one.nbytes for one in pipeline.unet.parameters())
    free = memory_check.estimate_memory(prepared.options, prepared.folder, None, torch.float32).need.total
    # The loaded weights count as available.
    monkeypatch.setattr(memory_check, "available_memory", lambda device: free - weights)
    generate(prepared, pipeline, Recorder())
    larger = prepare(options(height=512, width=512, num_frames=16, overwrite=True))
    assert larger.pipeline_key == prepared.pipeline_key
    with pytest.raises(NotEnoughMemoryError, match="512x512 with 16 frames"):
        generate(larger, pipeline, Recorder())


def test_the_model_of_a_preset_makes_the_video_and_is_recorded(options, t2v_folder, tmp_path):
    student = tmp_path / "student"
    shutil.copytree(t2v_folder, student)
    index = json.loads((student / "model_index.json").read_text())
    quality = {"model": "teacher", "num_inference_steps": 3}
    index["defaults"] = {**(index.get("defaults") or {}), "presets": {"quality": quality}}
    (student / "model_index.json").write_text(json.dumps(index))
    wanted = options(model=str(student), preset="quality")
    with pytest.raises(ModelUnavailableError, match=r"'teacher', which neither ships .* nor is a folder next to it"):
        prepare(wanted)

    shutil.copytree(t2v_folder, tmp_path / "teacher")
    prepared = prepare(wanted)
    assert prepared.folder == tmp_path / "teacher"
    assert prepared.model_hash == prepare(options()).model_hash
    assert prepare(options(model=str(student))).folder == student
    paths = run(wanted, Recorder())
    assert read_metadata(paths[0])["model_hash"] == prepared.model_hash


@pytest.mark.parametrize("name", ["../v", "/etc", "~", "t2v-1024"])
def test_a_preset_names_no_model_elsewhere(options, t2v_folder, tmp_path, name):
    student = tmp_path / "student"
    shutil.copytree(t2v_folder, student)
    index = json.loads((student / "model_index.json").read_text())
    index["defaults"] = {"presets": {"quality": {"model": name, "num_inference_steps": 3}}}
    (student / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelUnavailableError, match="neither ships"):
        prepare(options(model=str(student), preset="quality"))
