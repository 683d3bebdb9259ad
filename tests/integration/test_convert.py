"""Convert official checkpoints on the command line, compare them with the official code, and convert them back."""

import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from tests.command_line import call
from tests.golden.comparison import LIMIT, outputs, relative_error
from tests.golden.official_numbers import VARIANTS, OfficialNumbers
from tests.golden.rebuilt_model import RebuiltModel
from tests.official_checkpoints import random_checkpoint, save_checkpoint, small_params, write_config
from tests.warm_process import WarmProcess
from videocrafter.checkpoints.official.official_model import official_model_from_config
from videocrafter.models.tokenizer import build_word_tokenizer
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline
from videocrafter.pipelines.text_to_video import TextToVideoPipeline

Pipeline = TextToVideoPipeline | ImageToVideoPipeline


class Converted:
    """One golden variant: its checkpoint, and the folder that the command converted it to."""

    def __init__(self, variant: str, work: Path) -> None:
        self.numbers = OfficialNumbers(variant)
        self.official = self.numbers.state_dict()
        self.folder = work / "model"
        source = save_checkpoint(work / "model.ckpt", self.official)
        config = write_config(work / "model.yaml", self.numbers.config)
        convert(source, self.folder, "--config", config)


def convert(*arguments: object) -> str:
    result = call(["convert", *arguments])
    assert result.exit_code == 0, result.stderr
    return result.stdout


def load(folder: Path) -> Pipeline:
    """Load the pipeline with a tokenizer that fits the small vocabulary of the golden models."""
    pipeline = load_pipeline(folder)
    pipeline.register_modules(tokenizer=build_word_tokenizer(["a cat runs fast"], max_length=77))
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@pytest.fixture(scope="module", params=VARIANTS)
def converted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Converted:
    return Converted(request.param, tmp_path_factory.mktemp(request.param))


def test_converting_there_and_back_is_exact(converted: Converted, tmp_path: Path):
    convert(converted.folder, tmp_path / "back.ckpt")
    got = torch.load(tmp_path / "back.ckpt", weights_only=True)["state_dict"]
    assert got.keys() == converted.official.keys()
    for key, value in converted.official.items():
        assert got[key].dtype == value.dtype, key
        assert torch.equal(got[key], value), key


def test_the_loaded_folder_computes_the_official_outputs(converted: Converted):
    """Compares all networks, and for one scaled model and the image model also a sampling run."""
    pipeline = load(converted.folder)
    model = RebuiltModel(
        unet=pipeline.unet,
        vae=pipeline.vae,
        text_encoder=pipeline.text_encoder,
        image_encoder=getattr(pipeline, "image_encoder", None),
        image_projector=getattr(pipeline, "image_projector", None),
        signal_scale=pipeline.config["signal_scale"],
    )
    expected, sampled = converted.numbers.expected, converted.numbers.variant in ("t2v_1024_v1", "i2v_512_v1")
    compared = 0
    with torch.no_grad():
        for name, got in outputs(converted.numbers, model):
            if name.startswith("ddim.1." if sampled else "ddim."):
                break
            if name in expected:
                assert relative_error(got, expected[name]) < LIMIT, name
                compared += 1
    assert compared > 8


def test_the_loaded_folder_makes_videos(converted: Converted):
    pipeline = load(converted.folder)
    settings = {"num_frames": 3, "height": 32, "width": 48, "num_inference_steps": 2, "seeds": 1}
    inputs = {"prompt": "a cat runs"}
    if isinstance(pipeline, ImageToVideoPipeline):
        inputs["image"] = Image.new("RGB", (40, 30), "red")
    assert pipeline.generation_defaults.num_frames == 8
    assert (pipeline.generation_defaults.height, pipeline.generation_defaults.width) == (64, 96)
    frames = pipeline(**inputs, **settings, output_type="pt").frames
    assert frames.shape == (1, 3, 3, 32, 48)
    assert bool(frames.isfinite().all())
    assert frames.std() > 0


MEASURE = """
import re, sys
from pathlib import Path
from videocrafter.checkpoints.official.to_folder import convert_to_folder
from videocrafter.checkpoints.official.to_official import convert_to_official
work, direction = Path(sys.argv[1]), sys.argv[2]
def convert(name):
    if direction == "there":
        convert_to_folder(work / f"{name}.ckpt", work / name)
    else:
        convert_to_official(work / name, work / f"{name}_back.ckpt")
def peak():
    # Unlike getrusage, this does not start at the memory of the parent process.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", status)[1]) * 1024
convert("small")
before = peak()
convert("large")
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory from /proc")
def test_a_conversion_holds_only_one_copy_of_the_model_in_memory(tmp_path: Path):
    """Pages of mapped files count too, so the peak is at least the file's size."""
    params = small_params()
    save_checkpoint(tmp_path / "small.ckpt", random_checkpoint(official_model_from_config(params)))
    params["unet_config"]["params"] |= {
        "model_channels": 192,
        "channel_mult": [1, 2],
        "attention_resolutions": [1, 2],
    }
    source = save_checkpoint(tmp_path / "large.ckpt", random_checkpoint(official_model_from_config(params)))
    size = source.stat().st_size
    assert size > 100e6
    for direction in ("there", "back"):
        process = WarmProcess(MEASURE, tmp_path, direction)
        printed, errors = process.communicate()
        assert process.returncode == 0, errors
        assert int(printed) < 1.3 * size, direction
