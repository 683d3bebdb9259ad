from pathlib import Path
from types import SimpleNamespace

import pytest

from videocrafter.generation.outputs import check_encodings, check_names, plan_outputs
from videocrafter.generation.request import GenerateOptions, PromptRow


def test_one_video_keeps_its_name():
    assert plan_outputs(Path("a/b.mp4"), 1) == [Path("a/b.mp4")]


def test_several_are_numbered_with_enough_digits():
    assert plan_outputs(Path("a/b.mp4"), 2) == [Path("a/b-000.mp4"), Path("a/b-001.mp4")]
    assert plan_outputs(Path("frames"), 2)[1] == Path("frames-001")
    many = plan_outputs(Path("b.gif"), 1001)
    assert many[0] == Path("b-0000.gif")
    assert many[-1] == Path("b-1000.gif")


def check(output: str, **options: object) -> None:
    image = options.pop("image", None)
    rows = (PromptRow(prompt="a cat", image=None if image is None else Path(str(image))),)
    paths = {name: Path(str(value)) for name, value in options.items()}
    given = GenerateOptions(output=Path(output), rows=rows, **paths)
    check_names(plan_outputs(given.output, 1), given)


@pytest.mark.parametrize(
    ("output", "options", "message"),
    [
        ("x/.mp4", {}, "only a suffix"),
        ("v.mp4", {"contact_sheet": "sheet.jpg"}, "contact_sheet must end in .png"),
        (
            "v.mp4",
            {"contact_sheet": "a.png", "preview": "./a.png"},
            "preview is a.png, which belongs to `contact_sheet`",
        ),
        ("v", {"preview": "v/p.png"}, "preview is v/p.png, which belongs to `output`"),
        ("v", {"contact_sheet": "v/p.png"}, "contact_sheet is v/p.png, which belongs to `output`"),
        ("v.mp4", {"video": "../{here}/v.mp4"}, "`output` would replace .*, the input of `video`"),
        ("v.mp4", {"continued": "v.mp4"}, "the input of `continued`"),
        ("v", {"image": "v/frame_000000.png"}, "`output` would replace .*, the input of `image`"),
        ("v.mp4", {"image": "a.png", "contact_sheet": "a.png"}, "`contact_sheet` would replace a.png"),
    ],
)
def test_outputs_that_would_replace_something_are_refused(tmp_path, monkeypatch, output, options, message):
    monkeypatch.chdir(tmp_path)
    options = {name: value.format(here=tmp_path.name) for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        check(output, **options)


def test_inputs_next_to_the_output_are_fine():
    check("v.mp4", image="v.png", contact_sheet="sheet.png", preview="p.png")
    check("v", video="v.mp4")


def test_a_file_that_cannot_store_the_video_is_refused_before_sampling():
    request = SimpleNamespace(height=16, width=16)
    videos = [Path("v-000.mp4"), Path("v-001.mp4")]
    check_encodings(videos, [8.0, 8.0], request, None)
    with pytest.raises(ValueError, match="at least 32 pixels per side, not 16x16"):
        check_encodings(videos, [8.0, 8.0], request, "av1")
    with pytest.raises(ValueError, match="playback_fps must be at most 50 for a GIF, but is 60"):
        check_encodings([Path("v-000.gif"), Path("v-001.gif")], [8.0, 60.0], request, None)
