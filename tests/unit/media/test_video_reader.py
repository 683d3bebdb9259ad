"""Videos of any kind are read upright, by time, at a given size; untrustworthy files are refused with a reason."""

import io
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.media.clips import moving_disc, numbered, numbers_in
from tests.unit.media.odd_videos import encode_sound, encode_video
from videocrafter.media import video_decoding
from videocrafter.media.errors import MediaError
from videocrafter.media.framing import Framing
from videocrafter.media.video_reader import UnusableMediaError, open_reader


def middle_times(fps: float, frames: list[int]) -> list[float]:
    return [(frame + 0.5) / fps for frame in frames]


def square(height: int, width: int) -> Framing:
    return Framing(height=32, width=32)


def reason(path: Path, times: list[float] | None = None, **limits) -> str:
    """Return the reason why a file is refused; empty if it is accepted."""
    try:
        with open_reader(path, **limits) as reader:
            reader.frames_at(times or middle_times(reader.fps, list(range(reader.num_frames))), square)
            return ""
    except UnusableMediaError as error:
        message, found = str(error), error.reason
    assert message
    assert "\n" not in message
    return found


@pytest.fixture(scope="module")
def long_clip(tmp_path_factory):
    """120 numbered frames at 10 per second, a keyframe every 10."""
    path = tmp_path_factory.mktemp("long") / "long.mp4"
    return encode_video(path, numbered(120), 10, keyframe_every=10, options={"crf": "5", "sc_threshold": "0"})


@pytest.mark.parametrize(
    ("name", "how"),
    [
        ("plain.mp4", {}),
        ("ten_bit.mp4", {"pix_fmt": "yuv420p10le"}),
        ("sound.mkv", {"sound_s": 4.0}),
        ("vp9.webm", {"codec": "libvpx-vp9"}),
        ("stream.ts", {"codec": "mpeg4", "sound_s": 4.0}),
        ("old.avi", {"codec": "mpeg4"}),
        ("full_range.avi", {"codec": "mjpeg", "pix_fmt": "yuvj420p"}),
        ("prores.mov", {"codec": "prores_ks", "pix_fmt": "yuv422p10le"}),
        ("loop.gif", {"codec": "gif", "pix_fmt": "rgb8"}),
    ],
)
def test_any_codec_gives_the_same_pictures(tmp_path, name, how):
    path = encode_video(tmp_path / name, **how)
    with open_reader(path) as reader:
        assert reader.num_frames == 16
        assert reader.fps == pytest.approx(8, rel=0.01)
        assert reader.duration_s == pytest.approx(2, rel=0.01)
        frames = reader.frames_at(middle_times(reader.fps, list(range(16))))
        assert reader.size == (48, 64)
    expected = moving_disc(16, 48, 64)
    assert frames.shape == expected.shape
    distances = np.abs(frames.astype(int)[:, None] - expected).mean(axis=(2, 3, 4))
    assert distances.argmin(axis=1).tolist() == list(range(16))
    # 8 bits for three colours are coarse; the other formats differ only by coding loss.
    assert distances.diagonal().max() < (24 if name.endswith("gif") else 12)


@given(first=st.integers(0, 100), stride=st.integers(1, 6), length=st.integers(1, 16))
def test_frames_are_found_by_the_middle_of_their_time(long_clip, first, stride, length):
    frames = list(range(first, 120, stride))[:length]
    with open_reader(long_clip) as reader:
        assert numbers_in(reader.frames_at(middle_times(10, frames))) == frames


def test_only_the_neighbourhood_is_decoded(long_clip, monkeypatch):
    decoded = []
    original = video_decoding._decode

    def counting(*arguments):
        for frame in original(*arguments):
            decoded.append(frame.pts)
            yield frame

    monkeypatch.setattr(video_decoding, "_decode", counting)
    with open_reader(long_clip) as reader:
        assert decoded == []  # rate and length need no decoding
        assert numbers_in(reader.frames_at(middle_times(10, [93, 95, 97]))) == [93, 95, 97]
    assert len(decoded) <= 10


def test_a_reader_can_be_asked_again_and_earlier(long_clip):
    with open_reader(long_clip) as reader:
        for frame in (70, 10, 100, 0):
            assert numbers_in(reader.frames_at([frame / 10 + 0.05])) == [frame]
            assert reader.size == (32, 32)


def test_a_file_in_memory_reads_like_one_on_disk(long_clip):
    with open_reader(io.BytesIO(long_clip.read_bytes()), "some name") as reader:
        assert numbers_in(reader.frames_at(middle_times(10, [3, 44]))) == [3, 44]


def test_scaling_fills_the_frame_and_keeps_shapes(tmp_path):
    path = encode_video(tmp_path / "clip.mp4", moving_disc(4, 96, 128))
    with open_reader(path) as reader:
        wide = reader.frames_at([0.1], lambda height, width: Framing(height=24, width=64))
        whole = reader.frames_at([0.1], lambda height, width: Framing(height=48, width=64))
    assert np.abs(whole[0, 12:36].astype(int) - wide[0]).mean() < 2


def test_a_variable_rate_keeps_the_speed_of_motion(tmp_path):
    # Frame i is shown from i / 10 s on; frames 8 to 11 are missing, as when a phone was busy.
    kept = [frame for frame in range(20) if not 8 <= frame < 12]
    path = encode_video(tmp_path / "v.mp4", numbered(20)[kept], 10, ticks=[100 * frame for frame in kept])
    with open_reader(path) as reader:
        assert reader.duration_s == pytest.approx(2.0, abs=0.05)
        found = numbers_in(reader.frames_at([0.05, 0.55, 0.95, 1.25, 1.85]))
    assert found == [0, 5, 7, 12, 18]


def test_transparency_lies_over_white(tmp_path):
    frames = np.concatenate([moving_disc(4, 48, 64), np.full((4, 48, 64, 1), 255, np.uint8)], axis=-1)
    frames[:, 24:, :, 3] = 0
    frames[:, 24:, 32:, 3] = 128
    path = encode_video(tmp_path / "alpha.mov", frames, codec="qtrle", pix_fmt="argb")
    with open_reader(path) as reader:
        picture = reader.frames_at([0.1])[0].astype(int)
    assert np.abs(picture[:24] - frames[0, :24, :, :3]).max() <= 2
    assert (picture[24:, :32] == 255).all()
    half = (frames[0, 30, 40, :3].astype(int) + 255) // 2
    assert np.abs(picture[30, 40] - half).max() <= 2


def test_grey_becomes_rgb(tmp_path):
    path = encode_video(tmp_path / "grey.mkv", codec="ffv1", pix_fmt="gray")
    with open_reader(path) as reader:
        picture = reader.frames_at([0.1])[0]
    assert (picture[..., 0] == picture[..., 1]).all()
    assert (picture[..., 0] == picture[..., 2]).all()


def test_sound_that_goes_on_after_the_pictures_is_not_their_end(tmp_path):
    for name in ("a.mp4", "a.mkv", "a.ts"):
        path = encode_video(tmp_path / name, codec="mpeg4", sound_s=6.0)
        assert reason(path) == "", name


@pytest.mark.parametrize(
    ("name", "content"),
    [("empty.mp4", b""), ("text.mp4", b"no video" * 100), ("list.mp4", b"#EXTM3U\n#EXTINF:1,\nfile:/etc/passwd\n")],
)
def test_what_is_no_video_is_unreadable(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert reason(tmp_path / name) == "unreadable"


def test_what_is_not_there_is_missing(tmp_path):
    assert reason(tmp_path / "no.mp4") == "missing"
    assert reason(tmp_path) == "missing"


def test_sound_alone_is_no_video(tmp_path):
    assert reason(encode_sound(tmp_path / "a.m4a")) == "audio_only"


def test_a_download_that_was_cut_off_is_found_out(tmp_path):
    noise = np.random.default_rng(0).integers(0, 255, (24, 48, 64, 3), dtype=np.uint8)
    front = {"movflags": "faststart"}
    whole = encode_video(tmp_path / "whole.mp4", noise, container_options=front)
    assert reason(whole) == ""
    (tmp_path / "cut.mp4").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert reason(tmp_path / "cut.mp4") in ("truncated", "unreadable")
    assert reason(tmp_path / "cut.mp4", [0.1, 0.3]) == ""  # the remaining part can be used
    stream = encode_video(tmp_path / "whole.mkv", noise, codec="mpeg4")
    (tmp_path / "cut.mkv").write_bytes(stream.read_bytes()[: stream.stat().st_size // 2])
    assert reason(tmp_path / "cut.mkv") == "truncated"


def test_frames_are_read_one_after_another_and_a_lost_end_is_found_out(tmp_path, long_clip):
    with open_reader(long_clip) as reader:
        assert [number for frame in reader.frames() for number in numbers_in(frame[None])] == list(range(120))
        assert numbers_in(next(reader.frames())[None]) == [0]
    noise = np.random.default_rng(0).integers(0, 255, (24, 48, 64, 3), dtype=np.uint8)
    for name, options in (("a.mp4", {"container_options": {"movflags": "faststart"}}), ("a.mkv", {"codec": "mpeg4"})):
        whole = encode_video(tmp_path / name, noise, **options)
        with open_reader(whole) as reader:
            assert len(list(reader.frames())) == 24
        (tmp_path / f"cut_{name}").write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
        with pytest.raises(UnusableMediaError), open_reader(tmp_path / f"cut_{name}") as reader:
            list(reader.frames())
        with open_reader(tmp_path / f"cut_{name}", strict=False) as reader:
            assert 1 < len(list(islice(reader.frames(), 5))) < 24


def test_absurd_sizes_are_refused_before_they_are_decoded(tmp_path):
    assert reason(encode_video(tmp_path / "a.mp4"), max_pixels=1000) == "absurd_size"
    assert reason(encode_video(tmp_path / "strip.mp4", np.zeros((4, 16, 320, 3), np.uint8))) == "absurd_size"
    bomb = bytearray(encode_video(tmp_path / "a.gif", codec="gif", pix_fmt="rgb8").read_bytes())
    bomb[6:10] = (20_000).to_bytes(2, "little") * 2  # width and height of the screen
    (tmp_path / "bomb.gif").write_bytes(bomb)
    assert reason(tmp_path / "bomb.gif") in ("absurd_size", "unreadable")


def test_a_rate_that_no_camera_has_is_refused(tmp_path):
    assert reason(encode_video(tmp_path / "slides.mp4", numbered(4), 0.2)) == "no_rate"


def test_time_that_is_up_is_told(tmp_path):
    path = encode_video(tmp_path / "a.mp4")
    with open_reader(path, time_limit_s=60.0) as reader:
        reader._video._deadline = time.monotonic() - 1.0
        with pytest.raises(MediaError, match="takes too long"):
            reader.frames_at([0.1])
    assert reason(path, time_limit_s=1e-9) == "too_slow"
