import json

import numpy as np

from videocrafter.data.sprite_world.balanced_stills import balanced_stills
from videocrafter.data.sprite_world.world import SpriteWorld, SpriteWorldConfig
from videocrafter.evaluation.exam.clips import to_bytes
from videocrafter.media.image_file import write_image
from videocrafter.pipelines.text_to_video import TextToVideoPipeline


def test_a_folder_of_pictures_is_scored(cli, tmp_path):
    world = SpriteWorld(SpriteWorldConfig(split="held_out"))
    scripts = balanced_stills(world, 10)
    for number, (script, frame) in enumerate(zip(scripts, to_bytes(world.render(scripts)[:, 0]), strict=True)):
        write_image(tmp_path / "pictures" / f"{script.subject}-{number}.png", frame, overwrite=True)
    result = cli("evaluate", tmp_path / "pictures", "--protocol", "stills", "-o", tmp_path / "r")
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert report["recognised"]["value"] >= 0.8
    assert f"recognised: {report['recognised']['value']:.1%}" in result.stdout
    assert not {"seed", "num_inference_steps", "guidance_scale"} & set(report)
    assert (tmp_path / "r" / "stills.png").is_file()
    again = cli("evaluate", tmp_path / "pictures", "--protocol", "stills", "-o", tmp_path / "r")
    assert again.exit_code == 2
    assert "report.json" in again.stderr


def test_a_model_makes_its_own_stills(cli, t2v_folder, tmp_path):
    arguments = ["--protocol", "stills", "--prompts", 3, "--steps", 1, "-o", tmp_path / "r"]
    result = cli("evaluate", t2v_folder, *arguments)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "r" / "report.json").read_text())
    assert len(report["stills"]) == 3
    request = TextToVideoPipeline.from_pretrained(t2v_folder).check_inputs("")
    assert (report["num_inference_steps"], report["guidance_scale"]) == (1, request.sampling.guidance_scale)
    assert report["seed"] == 0


def test_options_for_models_are_refused_for_pictures(cli, tmp_path):
    write_image(tmp_path / "cat.png", np.zeros((16, 16, 3), np.uint8))
    for option in ("--prompts", "--seed", "--batch-size", "--steps", "--guidance"):
        result = cli("evaluate", tmp_path, "--protocol", "stills", option, 0, "-o", tmp_path / "r")
        assert result.exit_code == 2
        assert f"options for models: {option}; {tmp_path} is a folder of pictures" in result.stderr
    assert not (tmp_path / "r").exists()


def test_options_of_other_protocols_and_wrong_numbers_are_one_line(cli, t2v_folder, tmp_path):
    for options, word in (
        (["--quick"], "--quick does not apply to protocol stills"),
        (["--prompts", "many"], "--prompts is 'many'"),
        (["--judge", tmp_path], "contains no judge"),
        (["--steps", 0], "--steps must be at least 1"),
    ):
        result = cli("evaluate", t2v_folder, "--protocol", "stills", *options, "-o", tmp_path / "r")
        assert result.exit_code == 2
        assert word in result.stderr
        assert result.stderr.count("\n") == 1
