"""Every wrong input gives one line on standard error and exit status 2; nothing is written."""

import shutil

import pytest
from PIL import Image


@pytest.fixture
def out(tmp_path):
    folder = tmp_path / "out"
    folder.mkdir()
    return folder / "video.mp4"


def assert_refused(result, out, *words):
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1, result.stderr
    assert lines[0].startswith("Error: ")
    for word in words:
        assert word in lines[0]
    assert result.stdout == ""
    assert list(out.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--model", "tinny"], ["'tinny'", "did you mean 'tiny'", "t2v-512"]),
        (["--model", "t2v-512-early"], ["t2v-512-early", "pass its path"]),
        (["--scheduler", "dmp++2m"], ["'dmp++2m'", "dpm++2m", "unipc"]),
        (["--height", "20"], ["--height", "20", "multiple of 8", "16 and 24"]),
        (["--width", "0"], ["--width", "multiple of 8", "8 is"]),
        (["--frames", "0"], ["--frames", "at least 1", "0"]),
        (["--frames", "500", "--window", "500"], ["--window", "between 2 and 16", "500"]),
        (["--frames", "9", "--window-overlap", "4"], ["overlap", "between 0 and 3", "4"]),
        (["--steps", "0"], ["--steps", "at least 1"]),
        (["--steps", "2000"], ["--steps", "between 1 and 1000", "2000"]),
        (["--fps", "-1"], ["--fps", "-1"]),
        (["--playback-fps", "0"], ["--playback-fps", "above 0"]),
        (["--guidance", "-2"], ["--guidance must", "at least 0"]),
        (["--guidance-rescale", "3"], ["--guidance-rescale", "between 0 and 1"]),
        (["--eta", "7"], ["--eta", "between 0 and 1"]),
        (["--eta", "0.5", "--scheduler", "unipc"], ["--eta", "DDIM", "UniPC"]),
        (["--seed", "-3"], ["--seed", "-3"]),
        (["--num-videos", "0"], ["--num-videos", "at least 1"]),
        (["--batch-size", "0"], ["--batch-size", "at least 1"]),
        (["--device", "abacus"], ["abacus", "cpu"]),
        (["--dtype", "int8"], ["int8", "float32, bfloat16, float16"]),
        (["--image-scale", "1"], ["--image-scale", "--image"]),
        (["--image-guidance", "1"], ["--image-guidance", "--image"]),
        (["--fit", "crop"], ["--fit", "--image"]),
        (["--spacing", "trailling"], ["'trailling'", "trailing"]),
        (["--scheduler", "lcm", "--spacing", "leading"], ["lcm", "fixed steps"]),
        (["--scheduler", "euler", "--spacing", "leading", "--zero-terminal-snr"], ["trailing or linspace"]),
        (["--guidance-interval", "0.8", "0.2"], ["--guidance-interval", "(0.8, 0.2)"]),
        (["--temporal-guidance", "-1"], ["--temporal-guidance", "-1"]),
        (["--preview", "preview.jpg"], ["preview.jpg", ".png"]),
        (["--codec", "vp9"], ["--codec 'vp9' cannot be used for a .mp4 file", ".mp4: h264, av1; .webm: vp9, av1"]),
        (["--preview-every", "0"], ["--preview-every", "at least 1"]),
        (["--strength", "0.5"], ["--strength", "--video"]),
        (["--loop", "--video", "x.mp4"], ["--video and --loop", "choose one"]),
        (["--image-end", "x.png"], ["--image-end", "first with --image"]),
        (["--video", "nowhere.mp4"], ["nowhere.mp4"]),
        (["--continue", "nowhere.mp4"], ["nowhere.mp4"]),
        (["--lora", "nowhere.safetensors"], ["nowhere.safetensors"]),
        (["--prompts", "nowhere.txt"], ["nowhere.txt", "No such file"]),
        (["--from", "nowhere.mp4"], ["nowhere.mp4"]),
        (["--image", "nowhere.png"], ["nowhere.png", "does not exist"]),
        (["--contact-sheet", "sheet.jpg"], ["sheet.jpg", ".png"]),
    ],
)
def test_wrong_option(make, out, options, words):
    assert_refused(make("a cat", "-o", out, *options), out, *words)


def test_no_prompt(make, out):
    assert_refused(make("-o", out), out, "no prompt", "--prompts FILE")


def test_unknown_suffix(make, out):
    assert_refused(make("a cat", "-o", out.with_suffix(".avi")), out, ".avi", ".mp4", ".gif")


def test_playback_too_fast_for_a_gif_is_found_before_generating(make, out):
    result = make("a cat", "-o", out.with_suffix(".gif"), "--fps", 100)
    assert "50" in result.stderr
    assert result.exit_code == 2
    assert list(out.parent.iterdir()) == []


def test_folder_that_cannot_be_written(make, out):
    result = make("a cat", "-o", "/proc/videocrafter/video.mp4")
    assert_refused(result, out, "/proc/videocrafter/video.mp4")


def test_parent_that_is_a_file(make, out, tmp_path):
    (tmp_path / "file").touch()
    assert_refused(make("a cat", "-o", tmp_path / "file" / "v.mp4"), out, "file")


def test_folder_with_foreign_files_is_never_replaced(make, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    result = make("a cat", "-o", tmp_path / "mine", "--overwrite")
    assert result.exit_code == 2
    assert "thesis.txt" in result.stderr
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", ["contains no prompts"]), (b"# only\n\n", ["contains no prompts"]), (b"\xff\xfe\x00", ["UTF-8"])],
)
def test_prompts_file_without_prompts(make, out, tmp_path, content, words):
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    assert_refused(make("--prompts", path, "-o", out), out, "prompts.txt", *words)


@pytest.mark.parametrize("damage", ["truncated", "text", "too thin"])
def test_unusable_image(cli, i2v_folder, out, tmp_path, damage):
    path = tmp_path / "picture.png"
    Image.effect_noise((64, 64), 50).save(path)
    if damage == "truncated":
        path.write_bytes(path.read_bytes()[:500])
    elif damage == "text":
        path.write_text("no picture")
    else:
        Image.new("RGB", (9, 1)).save(path)
    result = cli("generate", "a cat", "--image", path, "-m", i2v_folder, "-o", out)
    assert_refused(result, out, "9x1" if damage == "too thin" else "picture.png")


def test_huge_image(cli, i2v_folder, out, tmp_path):
    path = tmp_path / "huge.png"
    Image.new("1", (20_000, 20_000)).save(path)
    result = cli("generate", "a cat", "--image", path, "-m", i2v_folder, "-o", out)
    assert_refused(result, out, "huge.png", "million")


def test_model_and_image_must_fit(cli, t2v_folder, i2v_folder, out, tmp_path):
    path = tmp_path / "picture.png"
    Image.new("RGB", (9, 9)).save(path)
    assert_refused(cli("generate", "a", "-m", i2v_folder, "-o", out), out, "needs an image")
    assert_refused(cli("generate", "a", "-i", path, "-m", t2v_folder, "-o", out), out, "takes no image")


def test_damaged_checkpoint_names_the_file(cli, t2v_folder, out, tmp_path):
    folder = shutil.copytree(t2v_folder, tmp_path / "model")
    weights = folder / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    assert_refused(cli("generate", "a cat", "-m", folder, "-o", out), out, str(weights), "damaged")
    (folder / "model_index.json").write_text("{")
    assert_refused(cli("generate", "a cat", "-m", folder, "-o", out), out, "model_index.json")


def test_video_of_somebody_else_cannot_be_repeated(cli, out, tmp_path):
    other = tmp_path / "other.json"
    other.write_text('{"title": "holiday"}')
    assert_refused(cli("generate", "--from", other, "-o", out), out, "other.json", "no recording")
    other.write_text('{"prompt": "a cat", "seed": "x", "model": "tiny"}')
    assert_refused(cli("generate", "--from", other, "-o", out), out, "damaged", "seed")


def test_full_disk_is_one_line_and_leaves_nothing(make, out, monkeypatch):
    import errno

    from videocrafter.media import atomic_write

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic_write, "_write", full)
    assert_refused(make("a cat", "-o", out, "--quiet"), out, "disk is full")


def test_a_bug_in_the_computation_is_not_dressed_up_as_bad_input(make, out, monkeypatch):
    from videocrafter.pipelines import video_pipeline

    def broken(*_, **__):
        raise ValueError("a bug")

    monkeypatch.setattr(video_pipeline, "denoise", broken)
    with pytest.raises(ValueError, match="a bug"):
        make("a cat", "-o", out)
    assert list(out.parent.iterdir()) == []
