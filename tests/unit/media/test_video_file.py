import errno
import json
import os
import subprocess
import sys
import tempfile
import textwrap

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.unit.media.clips import moving_disc, numbered, numbers_in
from videocrafter.media import video_decoding
from videocrafter.media.errors import MediaError, OutputExistsError
from videocrafter.media.video_file import (
    check_encodable,
    check_output,
    probe,
    read_frames,
    read_metadata,
    sidecar_path,
    write_video,
)

NAMES = ["clip.mp4", "clip.webm", "clip.gif", "clip"]
CODECS = [("clip.mp4", "h264"), ("clip.mp4", "av1"), ("clip.webm", "vp9"), ("clip.webm", "av1")]
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


def mean_error(got: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(got.astype(int) - expected).mean())


def files_in(folder) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.mark.parametrize(("name", "bound"), [("clip.mp4", 2.5), ("clip.webm", 2.5), ("clip.gif", 2.0), ("clip", 0.0)])
def test_a_clip_comes_back_as_it_was_written(tmp_path, name, bound):
    frames = moving_disc()
    write_video(tmp_path / name, frames, 8)
    got = read_frames(tmp_path / name)
    assert got.dtype == np.uint8
    assert got.shape == frames.shape
    assert mean_error(got, frames) <= bound


@pytest.mark.parametrize(("name", "codec"), CODECS)
@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (200, 120, 40)])
def test_plain_colours_are_exact_to_three_levels(tmp_path, name, codec, color):
    frames = np.full((4, 32, 32, 3), color, np.uint8)
    write_video(tmp_path / name, frames, 8, codec=codec)
    assert np.abs(read_frames(tmp_path / name).astype(int) - frames).max() <= 3


@pytest.mark.parametrize(("name", "codec"), CODECS)
def test_players_learn_codec_pixel_format_and_colours(tmp_path, name, codec):
    write_video(tmp_path / name, moving_disc(), 8, codec=codec)
    with av.open(str(tmp_path / name)) as container:
        stored = container.streams.video[0].codec_context
        found = "av1" if "av1" in stored.codec.long_name.lower() else stored.name
        assert (found, stored.pix_fmt, stored.colorspace, stored.color_range) == (codec, "yuv420p", 1, 1)


@pytest.mark.parametrize(("name", "codec"), CODECS)
@pytest.mark.parametrize("fps", [8, 24000 / 1001])
def test_every_codec_keeps_size_length_rate_pictures_and_metadata(tmp_path, name, codec, fps):
    path, frames = tmp_path / name, moving_disc(9, 35, 47)
    write_video(path, frames, fps, {"seed": 7}, codec=codec)
    sidecar_path(path).unlink()
    got, info = read_frames(path), probe(path)
    if codec == "h264":
        assert got.shape == (9, 36, 48, 3)
    else:
        assert got.shape == frames.shape
    assert (info.num_frames, info.height, info.width) == got.shape[:3]
    assert info.fps == pytest.approx(fps)
    assert info.duration_s == pytest.approx(9 / fps)
    assert mean_error(got[:, :35, :47], frames) < 3
    assert read_metadata(path) == {"seed": 7}


@pytest.mark.parametrize(("name", "codec"), CODECS)
def test_every_codec_can_be_read_at_given_times(tmp_path, name, codec):
    write_video(tmp_path / name, numbered(200, 64), 12, codec=codec)
    wanted = [0, 150, 151, 3, 77, 199]
    assert numbers_in(read_frames(tmp_path / name, [index / 12 for index in wanted])) == wanted


@pytest.mark.parametrize(
    ("name", "codec"), [("c.mp4", "vp9"), ("c.webm", "h264"), ("c.webm", "x"), ("c.gif", "av1"), ("c", "av1")]
)
def test_codecs_that_a_file_cannot_contain_are_refused_with_the_allowed_ones(tmp_path, name, codec):
    for attempt in (
        lambda path: write_video(path, moving_disc(1), 8, codec=codec),
        lambda path: check_output(path, codec=codec),
    ):
        with pytest.raises(MediaError, match=rf"codec '{codec}' cannot be used.*\.mp4: h264, av1; \.webm: vp9, av1"):
            attempt(tmp_path / name)
    assert files_in(tmp_path) == []


def test_a_missing_encoder_is_reported_before_anything_is_computed(tmp_path, monkeypatch):
    def unknown(name, mode):
        raise av.codec.codec.UnknownCodecError(name)

    monkeypatch.setattr(av.codec, "Codec", unknown)
    with pytest.raises(
        MediaError, match=r"built without the AV1 encoder libsvtav1; choose another codec, or install"
    ):
        check_output(tmp_path / "clip.webm", codec="av1")


def test_frames_that_are_too_small_for_av1_are_refused(tmp_path):
    """Its encoder never returns for some of them."""
    with pytest.raises(
        MediaError, match="AV1 stores frames of at least 32 pixels per side, not 300x16; choose another"
    ):
        write_video(tmp_path / "clip.webm", moving_disc(2, 16, 300), 8, codec="av1")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    ("name", "codec", "size", "fps", "message"),
    [
        ("clip.mp4", "av1", (16, 16), 8, "at least 32 pixels"),
        ("clip.webm", "av1", (64, 64), 500, "AV1 cannot store frames of 64x64 at 500 frames per second"),
        ("clip.mp4", None, (64, 17000), 8, "H.264 cannot store frames of 17000x64"),
        ("clip.gif", None, (64, 64), 60, "a gif plays at most 50"),
    ],
)
def test_what_a_codec_cannot_store_is_refused_before_anything_is_computed(
    tmp_path, capfd, name, codec, size, fps, message
):
    with pytest.raises(MediaError, match=message) as caught:
        check_encodable(tmp_path / name, *size, fps, codec=codec)
    assert "avcodec" not in str(caught.value)
    assert capfd.readouterr().err == ""
    assert files_in(tmp_path) == []
    check_encodable(tmp_path / name, 64, 64, 8, codec=codec)
    check_encodable(tmp_path / "frames", 1, 1, 1000)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm"])
def test_a_rate_of_one_frame_in_minutes_is_kept(tmp_path, name):
    write_video(tmp_path / name, moving_disc(3, 16, 16), 0.0003)
    assert probe(tmp_path / name).fps == pytest.approx(0.0003, rel=1e-4)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fps", [4, 8, 10, 23.976, 24])
def test_probe_tells_what_was_written(tmp_path, name, fps):
    write_video(tmp_path / name, moving_disc(6, 32, 48), fps)
    info = probe(tmp_path / name)
    assert (info.num_frames, info.width, info.height) == (6, 48, 32)
    # A gif counts hundredths of a second; the other two are exact.
    tolerance = 0.005 if name.endswith("gif") else 1e-5
    assert info.duration_s == pytest.approx(6 / fps, abs=tolerance + 1e-5)
    assert info.fps == pytest.approx(info.num_frames / info.duration_s)


@given(
    num_frames=st.integers(1, 9),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    name=st.sampled_from(NAMES),
)
def test_any_size_and_length_can_be_written_and_read(tmp_path_factory, num_frames, height, width, name):
    path = tmp_path_factory.mktemp("sizes") / name
    write_video(path, moving_disc(num_frames, height, width), 8)
    padded = (height + height % 2, width + width % 2) if name.endswith("mp4") else (height, width)
    assert read_frames(path).shape == (num_frames, *padded, 3)
    assert (probe(path).height, probe(path).width) == padded


def test_padding_repeats_the_last_row_and_column(tmp_path):
    frames = moving_disc(2, 31, 33)
    write_video(tmp_path / "clip.mp4", frames, 8)
    got = read_frames(tmp_path / "clip.mp4")
    assert mean_error(got[:, :31, :33], frames) < 6
    assert mean_error(got[:, 31, :33], frames[:, 30]) < 8


def test_gif_keeps_frames_that_equal_each_other(tmp_path):
    write_video(tmp_path / "clip.gif", np.repeat(moving_disc(1), 5, axis=0), 10)
    assert len(read_frames(tmp_path / "clip.gif")) == 5
    assert probe(tmp_path / "clip.gif").duration_s == pytest.approx(0.5)


def test_gif_plays_for_ever_and_viewers_agree_on_its_timing(tmp_path):
    write_video(tmp_path / "clip.gif", moving_disc(8), 24)
    with Image.open(tmp_path / "clip.gif") as image:
        assert image.info["loop"] == 0
        durations = []
        for index in range(image.n_frames):
            image.seek(index)
            durations.append(image.info["duration"])
    assert set(durations) == {40, 50}
    assert sum(durations) == 330  # 8 / 24 s


@pytest.mark.parametrize("name", NAMES)
def test_metadata_stands_in_the_file_and_beside_it(tmp_path, name):
    metadata = {
        "prompt": "a “Käfer” ☃ 猫\n--",
        "seed": 7,
        "guidance_scale": 7.5,
        "long": "x" * 3000,
        "sizes": [1, None],
    }
    write_video(tmp_path / name, moving_disc(2), 8, metadata)
    assert json.loads(sidecar_path(tmp_path / name).read_text(encoding="utf-8")) == metadata
    assert read_metadata(sidecar_path(tmp_path / name)) == metadata
    sidecar_path(tmp_path / name).unlink()
    assert read_metadata(tmp_path / name) == metadata


@given(metadata=st.dictionaries(st.text(max_size=8), JSON_VALUES, max_size=4), name=st.sampled_from(NAMES))
def test_any_json_survives_as_metadata(tmp_path_factory, metadata, name):
    path = tmp_path_factory.mktemp("metadata") / name
    write_video(path, np.zeros((1, 8, 8, 3), np.uint8), 8, metadata)
    sidecar_path(path).unlink()
    assert read_metadata(path) == metadata


@pytest.mark.parametrize("name", NAMES)
def test_bytes_that_are_no_text_survive_as_metadata(tmp_path, name):
    metadata = {"prompt": "odd \udcff end", "nul": "\x00"}
    write_video(tmp_path / name, moving_disc(1), 8, metadata)
    assert read_metadata(tmp_path / name) == metadata
    assert read_metadata(sidecar_path(tmp_path / name)) == metadata


@pytest.mark.parametrize("name", NAMES)
def test_metadata_that_was_stripped_is_read_from_beside_the_file(tmp_path, name):
    write_video(tmp_path / name, moving_disc(2), 8)
    assert read_metadata(tmp_path / name) == {}
    sidecar_path(tmp_path / name).write_text('{"seed": 3}')
    assert read_metadata(tmp_path / name) == {"seed": 3}


def test_a_damaged_sidecar_is_named(tmp_path):
    (tmp_path / "clip.mp4.json").write_text("{")
    with pytest.raises(MediaError, match=r"clip\.mp4\.json contains no metadata"):
        read_metadata(tmp_path / "clip.mp4.json")


@pytest.mark.parametrize("name", NAMES)
def test_frames_are_found_by_their_time_in_any_order(tmp_path, name):
    write_video(tmp_path / name, numbered(12), 5)
    times = [1.0, 0.0, 0.39, 0.41, 2.3, 1.0, 99.0]
    assert numbers_in(read_frames(tmp_path / name, times)) == [5, 0, 1, 2, 11, 5, 11]
    assert numbers_in(read_frames(tmp_path / name, times, max_frames=3)) == [5, 0, 1]
    assert numbers_in(read_frames(tmp_path / name, max_frames=3)) == [0, 1, 2]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fps", [3, 7, 12.5, 23.976, 29.97])
def test_the_time_n_over_fps_finds_frame_n(tmp_path, name, fps):
    write_video(tmp_path / name, numbered(40, 16), fps)
    # A gif may start a frame up to half a hundredth of a second late.
    late = 0.005 if name.endswith("gif") else 0.0
    assert numbers_in(read_frames(tmp_path / name, [n / fps + late for n in range(40)])) == list(range(40))


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """200 frames at 10 per second with a keyframe every 10 frames."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"g": "10", "crf": "5", "sc_threshold": "0"})
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        for pixels in numbered(200):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def decoded(monkeypatch):
    """Collects the frames that the decoder gives out."""
    frames = []
    original = video_decoding._decode

    def counting(*arguments):
        for frame in original(*arguments):
            frames.append(frame)
            yield frame

    monkeypatch.setattr(video_decoding, "_decode", counting)
    return frames


def test_reading_by_time_decodes_only_the_neighbourhood(long_clip, decoded):
    assert numbers_in(read_frames(long_clip, [17.35, 5.05])) == [173, 50]
    assert len(decoded) <= 20  # of 200: for each time its way from the keyframe, and a frame of look-ahead


def test_neighbouring_times_are_decoded_once(long_clip, decoded):
    assert numbers_in(read_frames(long_clip, [n / 10 for n in range(60, 80)])) == list(range(60, 80))
    assert len(decoded) <= 34


def test_reading_the_first_frames_decodes_no_others(long_clip, decoded):
    assert numbers_in(read_frames(long_clip, max_frames=4)) == [0, 1, 2, 3]
    assert len(decoded) <= 5


@given(times=st.lists(st.floats(0, 25, allow_nan=False), min_size=1, max_size=12))
def test_any_times_give_the_frames_on_screen(long_clip, times):
    expected = [min(int(time * 10 + 1e-6), 199) for time in times]
    assert numbers_in(read_frames(long_clip, times)) == expected


@pytest.mark.parametrize("times", [[], [-0.1], [float("nan")], [float("inf")]])
def test_impossible_times_are_refused(long_clip, times):
    with pytest.raises(ValueError, match="seconds from the first frame"):
        read_frames(long_clip, times)


def test_an_existing_output_is_kept_unless_allowed(tmp_path):
    for name in NAMES:
        write_video(tmp_path / name, moving_disc(2), 8, {"seed": 1})
        with pytest.raises(OutputExistsError, match="already exists"):
            write_video(tmp_path / name, moving_disc(3), 8, {"seed": 2})
        assert len(read_frames(tmp_path / name)) == 2
        write_video(tmp_path / name, moving_disc(3), 8, {"seed": 2}, overwrite=True)
        assert len(read_frames(tmp_path / name)) == 3
        assert read_metadata(sidecar_path(tmp_path / name)) == {"seed": 2}
        write_video(tmp_path / name, moving_disc(4), 8, overwrite=True)
        assert read_metadata(tmp_path / name) == {}  # nothing of the older video describes the new one
    assert not [name for name in files_in(tmp_path) if name.endswith(".part")]


def test_an_existing_sidecar_is_kept_unless_allowed(tmp_path):
    sidecar_path(tmp_path / "clip.mp4").write_text("mine")
    for attempt in (lambda path: write_video(path, moving_disc(1), 8), check_output):
        with pytest.raises(OutputExistsError, match=r"clip\.mp4\.json already exists"):
            attempt(tmp_path / "clip.mp4")
    assert files_in(tmp_path) == ["clip.mp4.json"]


def test_a_folder_with_other_files_is_never_overwritten(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "holiday.png").write_bytes(b"dear")
    with pytest.raises(MediaError, match=r"holiday\.png"):
        write_video(tmp_path / "photos", moving_disc(1), 8, overwrite=True)
    assert (tmp_path / "photos" / "holiday.png").read_bytes() == b"dear"


def test_a_file_is_not_replaced_by_a_folder_nor_a_folder_by_a_file(tmp_path):
    (tmp_path / "clip").write_text("a file")
    (tmp_path / "clip.mp4").mkdir()
    for name in ("clip", "clip.mp4"):
        with pytest.raises(MediaError, match="choose another name"):
            write_video(tmp_path / name, moving_disc(1), 8, overwrite=True)


def test_the_parent_folder_is_made(tmp_path):
    write_video(tmp_path / "new" / "deep" / "clip.mp4", moving_disc(1), 8)
    assert files_in(tmp_path / "new" / "deep") == ["clip.mp4"]


def test_a_place_that_cannot_be_written_is_named_before_anything_is_computed(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MediaError, match="part of the path is a file, not a folder") as caught:
        check_output(tmp_path / "file" / "clip.mp4")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.EACCES, "permission denied"), (errno.EROFS, "read-only"), (errno.EIO, "choose another output")],
)
def test_a_folder_that_refuses_is_named_with_advice(tmp_path, monkeypatch, number, message):
    # Not by `chmod`, which does not bind an administrator.
    def refused(**_options):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(tempfile, "TemporaryFile", refused)
    with pytest.raises(MediaError, match=rf"cannot write .*clip\.mp4: .*{message}") as caught:
        check_output(tmp_path / "clip.mp4")
    assert "\n" not in str(caught.value)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", ["clip.avi", "clip.mp4.bak", "clip.json"])
def test_an_unknown_suffix_is_refused(tmp_path, name):
    with pytest.raises(MediaError, match=r"choose \.mp4, \.webm, \.gif"):
        write_video(tmp_path / name, moving_disc(1), 8)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("failing_call", [1, 2])
@pytest.mark.parametrize("existing", [False, True])
def test_a_full_disk_leaves_things_as_they_were(tmp_path, monkeypatch, name, failing_call, existing):
    if existing:
        write_video(tmp_path / name, moving_disc(2), 8, {"seed": 1})
    before = files_in(tmp_path)
    calls = []

    def full_disk(_descriptor):
        calls.append(1)
        if len(calls) == failing_call:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(MediaError, match="the disk is full; free some space"):
        write_video(tmp_path / name, moving_disc(4), 8, {"seed": 2}, overwrite=existing)
    assert files_in(tmp_path) == before
    if existing:
        assert len(read_frames(tmp_path / name)) == 2
        assert read_metadata(tmp_path / name) == {"seed": 1}


def test_ctrl_c_leaves_nothing_behind(tmp_path, monkeypatch):
    def interrupted(_descriptor):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_video(tmp_path / "clip", moving_disc(2), 8, {"seed": 1})
    assert files_in(tmp_path) == []


def test_a_write_that_the_system_cuts_off_leaves_nothing_behind(tmp_path):
    pytest.importorskip("resource")
    script = """
        import resource, sys
        import numpy as np
        from videocrafter.media.errors import MediaError
        from videocrafter.media.video_file import write_video

        noise = np.random.default_rng(0).integers(0, 255, (8, 64, 64, 3), dtype=np.uint8)
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        try:
            write_video(sys.argv[1], noise, 8, {"seed": 1})
        except MediaError as error:
            sys.exit(0 if "larger than this disk or your limits allow" in str(error) else 3)
    """
    for name in ("clip.mp4", "clip.gif", "clip"):
        done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), str(tmp_path / name)], check=False)
        assert done.returncode == 0
    assert files_in(tmp_path) == []


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((0, 8, 8, 3), np.uint8),
        np.zeros((2, 8, 8, 4), np.uint8),
        np.zeros((8, 8, 3), np.uint8),
        np.full((2, 8, 8, 3), -1, np.float32),
        np.zeros((2, 8, 8, 3), np.int16),
        [Image.new("RGB", (8, 8))],
    ],
)
def test_frames_of_another_shape_or_type_are_refused(tmp_path, frames):
    with pytest.raises(ValueError, match=r"frames .*expected .*(\[T, H, W, 3\]|0 to 1)"):
        write_video(tmp_path / "clip.mp4", frames, 8)
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("fps", [0, -1, float("nan"), float("inf"), 1e6])
def test_an_impossible_rate_is_refused(tmp_path, fps):
    with pytest.raises(ValueError, match="frames per second above 0"):
        write_video(tmp_path / "clip.mp4", moving_disc(1), fps)


def test_a_gif_says_when_it_cannot_play_so_fast(tmp_path):
    with pytest.raises(MediaError, match="at most 50 frames per second, not 60"):
        write_video(tmp_path / "clip.gif", moving_disc(1), 60)


def test_missing_damaged_and_foreign_files_are_named(tmp_path):
    write_video(tmp_path / "whole.mp4", moving_disc(), 8)
    (tmp_path / "cut.mp4").write_bytes((tmp_path / "whole.mp4").read_bytes()[:900])
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "empty").mkdir()
    for name in ("missing.mp4", "cut.mp4", "text.mp4", "empty.mp4", "empty"):
        for read in (probe, read_frames, read_metadata):
            with pytest.raises(MediaError) as caught:
                read(tmp_path / name)
            assert name in str(caught.value)
            assert "\n" not in str(caught.value)


def test_a_playlist_in_disguise_opens_no_other_file(tmp_path):
    write_video(tmp_path / "secret.mp4", moving_disc(), 8)
    playlists = {
        "list.mp4": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "concat.mp4": "ffconcat version 1.0\nfile secret.mp4\n",
    }
    for name, text in playlists.items():
        (tmp_path / name).write_text(text)
        with pytest.raises(MediaError, match="cannot be read as a video"):
            read_frames(tmp_path / name)


def test_a_folder_of_other_pngs_is_read_in_order_but_has_no_times(tmp_path):
    for index, frame in enumerate(numbered(3)):
        Image.fromarray(frame).save(tmp_path / f"picture_{index}.png")
    assert numbers_in(read_frames(tmp_path)) == [0, 1, 2]
    with pytest.raises(MediaError, match="do not state a playback rate"):
        probe(tmp_path)


def test_a_folder_of_unequal_pngs_is_refused(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    Image.new("RGB", (9, 8)).save(tmp_path / "b.png")
    with pytest.raises(MediaError, match="different sizes"):
        read_frames(tmp_path)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.webm", "clip.gif", "frames"])
def test_frames_that_come_in_parts_give_the_same_file(tmp_path, name):
    frames = moving_disc(7, height=33, width=30)
    (tmp_path / "whole").mkdir()
    whole, parts = tmp_path / "whole" / name, tmp_path / name
    write_video(whole, frames, 8, {"seed": 1})
    write_video(parts, (frames[start : start + 3] for start in range(0, 7, 3)), 8, {"seed": 1})
    np.testing.assert_array_equal(read_frames(parts), read_frames(whole))
    assert len(read_frames(parts)) == 7


def test_parts_are_taken_one_after_the_other_and_never_kept(tmp_path):
    import weakref

    taken = []

    def parts():
        for part in np.split(numbered(12), 4):
            copy = part.copy()
            taken.append(weakref.ref(copy))
            yield copy
            del copy
            assert sum(one() is not None for one in taken) <= 1

    write_video(tmp_path / "clip.mp4", parts(), 8)
    assert len(taken) == 4


def test_frames_in_floating_point_are_written_like_the_same_bytes(tmp_path):
    write_video(tmp_path / "whole", numbered(3) / np.float32(255), 8)
    write_video(tmp_path / "parts", iter([numbered(3)[:1], numbered(3)[1:] / 255]), 8)
    for name in ("whole", "parts"):
        np.testing.assert_array_equal(read_frames(tmp_path / name), numbered(3))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([], "there are no frames"),
        ([numbered(2), numbered(2)[:, :8]], "frames of one size"),
        ([numbered(2), numbered(2).astype(float)], "divided by 255"),
    ],
)
def test_wrong_parts_leave_no_file(tmp_path, parts, message):
    with pytest.raises(ValueError, match=message):
        write_video(tmp_path / "clip.mp4", iter(parts), 8)
    assert list(tmp_path.iterdir()) == []
