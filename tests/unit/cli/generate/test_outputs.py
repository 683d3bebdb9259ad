from pathlib import Path

from videocrafter.cli.generate.outputs import plan_outputs


def test_one_video_keeps_its_name():
    assert plan_outputs(Path("a/b.mp4"), 1) == [Path("a/b.mp4")]


def test_several_are_numbered_with_enough_digits():
    assert plan_outputs(Path("a/b.mp4"), 2) == [Path("a/b-000.mp4"), Path("a/b-001.mp4")]
    assert plan_outputs(Path("frames"), 2)[1] == Path("frames-001")
    many = plan_outputs(Path("b.gif"), 1001)
    assert many[0] == Path("b-0000.gif")
    assert many[-1] == Path("b-1000.gif")
