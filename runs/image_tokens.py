"""Compare image conditions (paper, figure 5): all patch tokens against the global token alone.

    videocrafter train tiny-i2v --output outputs/patches
    videocrafter train tiny-i2v --output outputs/global --set "stages.*.task.image_tokens=global"
    python runs/image_tokens.py outputs/tokens "all patch tokens=outputs/patches" "the global token=outputs/global"

Writes input images to OUTPUT/inputs, the page and sheets of `videocrafter compare` to OUTPUT/compared, and the
exam's part on images for each model to OUTPUT/exam-1, OUTPUT/exam-2 and so on. A model may also be a stage of a run,
such as outputs/patches/stages/low.
"""

import argparse
import subprocess
import sys
from pathlib import Path

from world_picture import world_picture

from videocrafter.evaluation.exam.exam import ExamConfig, run_exam
from videocrafter.evaluation.exam.judging import load_judge
from videocrafter.media.image_file import write_image
from videocrafter.pipelines.image_to_video import ImageToVideoPipeline
from videocrafter.pipelines.loading import load_pipeline

SECOND_JUDGE = Path(__file__).parent / "second_judge"
SHOWN = (
    ("ghost", "pink wall", -20.0, "it is moving left"),
    ("panda", "green meadow", 25.0, "it is moving right"),
    ("mushroom", "sandy beach", 30.0, "it is flying up"),
    ("car", "snowy field", -25.0, "it is moving left"),
    ("butterfly", "ocean", 0.0, "it is moving right"),
    ("rainbow", "forest", 20.0, "it is getting smaller"),
)
"""Subject, scene and angle in degrees of an input image, and the prompt."""


def main() -> None:
    """Write the images, the comparison and the exams."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path, help="folder of the inputs, the comparison and the exams")
    parser.add_argument("models", nargs="+", metavar="NAME=FOLDER", help="image-to-video models")
    parser.add_argument("--images", type=int, default=24, help="input images in each exam (%(default)s)")
    given = parser.parse_args()
    prompts = write_inputs(given.output / "inputs")
    arguments = [*given.models, "--prompts", str(prompts), "--seed", "1", "-o", str(given.output / "compared")]
    subprocess.run([sys.executable, "-m", "videocrafter", "compare", *arguments], check=True)
    for number, model in enumerate(given.models, start=1):
        name, _, folder = model.partition("=")
        examine(name, folder, given.output / f"exam-{number}", given.images)


def write_inputs(folder: Path) -> Path:
    """Write the images and the file of prompts; return the file."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["prompt,image"]
    for number, (subject, scene, angle, prompt) in enumerate(SHOWN):
        picture = world_picture(subject, scene, side=128, angle=angle, variant=number % 3)
        write_image(folder / f"{subject}.png", picture, overwrite=True)
        lines.append(f"{prompt},{subject}.png")
    path = folder / "prompts.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def examine(name: str, model: str, folder: Path, num_images: int) -> None:
    """Run the exam's part on images with both judges and print the scores."""
    pipeline = load_pipeline(model, expect=ImageToVideoPipeline)
    pipeline.set_progress_bar_config(disable=True)
    second = load_judge(SECOND_JUDGE)
    report = run_exam(folder, None, pipeline, config=ExamConfig(num_images=num_images), second_judge=second)
    print(name)
    for score, value in report.items():
        if score.startswith("i2v_"):
            print(f"  {score}: {value:.3f}")


if __name__ == "__main__":
    main()
