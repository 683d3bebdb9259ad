import json

from videocrafter.data.sprite_world.balanced_stills import balanced_stills
from videocrafter.data.sprite_world.world import SpriteWorld, SpriteWorldConfig
from videocrafter.evaluation.exam.clips import to_bytes
from videocrafter.media.image_file import write_image


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
