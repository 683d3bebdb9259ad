"""Each frame is found by its time, in every container, however the file was made: compared with plain decoding."""

import io
import random
from pathlib import Path

import av
import numpy as np
import pytest

from tests.unit.media.clips import numbered, numbers_in
from tests.unit.media.odd_videos import cut_without_encoding, encode_video
from videocrafter.media import video_timing
from videocrafter.media.video_file import probe, read_clip, read_frames
from videocrafter.media.video_reader import VideoReader, open_reader

OPEN_GOP = {"x264-params": "open-gop=1:bframes=3:keyint=10:min-keyint=10:scenecut=0"}
INTRA_REFRESH = {"x264-params": "intra-refresh=1:keyint=12"}
KINDS = [
    ("a.mp4", "libx264", {}),
    ("no_b_frames.mp4", "libx264", {"bf": "0"}),
    ("open_gop.mov", "libx264", OPEN_GOP),
    ("no_keyframes.mp4", "libx264", INTRA_REFRESH),
    ("open_gop.mkv", "libx264", OPEN_GOP),
    ("open_gop.mp4", "libx265", {"x265-params": "keyint=10:open-gop=1:log-level=none:bframes=4"}),
    ("a.webm", "libvpx", {"auto-alt-ref": "1", "lag-in-frames": "16"}),
    ("b_frames.avi", "mpeg4", {"bf": "2"}),
    ("without_time_stamps.avi", "libx264", {}),
    ("open_gop.ts", "libx264", OPEN_GOP),
    ("a.ts", "mpeg2video", {"bf": "2"}),
    ("a.mpg", "mpeg2video", {"bf": "2"}),
    ("mpeg1.mpg", "mpeg1video", {"bf": "2"}),
    ("a.vob", "mpeg2video", {"bf": "2"}),
    ("late.flv", "libx264", {}),
    ("a.flv", "flv", {}),
    ("a.gif", "gif", {}),
    ("a.apng", "apng", {}),
    ("a.asf", "msmpeg4", {}),
    ("a.3gp", "mpeg4", {}),
]
PIXELS = {"gif": "rgb8", "apng": "rgb24"}


def encoded(path: Path, codec: str = "libx264", options: dict[str, str] | None = None, **how) -> Path:
    how = {"keyframe_every": 10, **how}
    return encode_video(
        path,
        numbered(40, 64),
        25,
        codec=codec,
        pix_fmt=PIXELS.get(codec, "yuv420p"),
        options={"sc_threshold": "0", "b": "1000000", **(options or {})} if codec != "libx265" else options,
        **how,
    )


def decoded(path: Path) -> list[int]:
    """Return the numbers of the frames of a file, by decoding it from start to end."""
    with av.open(str(path)) as container:
        return numbers_in(np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]))


def check_every_frame(path: Path, fps: float = 25) -> None:
    """Check frames in random order: with one reader, and the last ones with a reader each."""
    expected = decoded(path)
    info = probe(path)
    assert info.num_frames == len(expected)
    assert info.fps == pytest.approx(fps)
    assert info.duration_s == pytest.approx(len(expected) / fps)
    order = list(range(len(expected)))
    random.Random(0).shuffle(order)

    def shown(reader: VideoReader, number: int) -> int:
        return numbers_in(reader.frames_at([(number + 0.5) / fps]))[0]

    with open_reader(path) as reader:
        assert (reader.num_frames, reader.fps, reader.duration_s) == (info.num_frames, info.fps, info.duration_s)
        assert [shown(reader, number) for number in order] == [expected[number] for number in order]
    for number in order[:4]:
        with open_reader(path) as reader:
            assert shown(reader, number) == expected[number]
    assert numbers_in(read_frames(path)) == expected


@pytest.mark.parametrize(("name", "codec", "options"), KINDS)
def test_every_container(tmp_path, name, codec, options):
    check_every_frame(encoded(tmp_path / name, codec, options))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.ts", "a.mpg", "a.flv", "a.avi"])
def test_a_single_keyframe(tmp_path, name):
    codec = {"mpg": "mpeg2video", "avi": "mpeg4"}.get(name[2:], "libx264")
    check_every_frame(encoded(tmp_path / name, codec, keyframe_every=300))


# Time stamps of a transport stream have 33 bits, so they start again after 26.5 hours.
@pytest.mark.parametrize(
    ("name", "start_s"),
    [("a.mp4", 50), ("a.mkv", 50), ("a.flv", 50), ("a.ts", 60_000), ("a.mpg", 60_000), ("wrap.ts", 95_442.4)],
)
def test_time_stamps_that_start_late_or_start_again(tmp_path, name, start_s):
    codec = "mpeg2video" if name.endswith("mpg") else "libx264"
    check_every_frame(encoded(tmp_path / name, codec, start_s=start_s))


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
@pytest.mark.parametrize(("start_s", "end_s"), [(0.62, 1.4), (0.8, 1.2), (0.02, 1.6)])
def test_a_cut_without_encoding(tmp_path, name, start_s, end_s):
    source = encoded(tmp_path / "source.mp4", keyframe_every=20)
    check_every_frame(cut_without_encoding(source, tmp_path / name, start_s, end_s))


def test_an_mp4_in_fragments(tmp_path):
    check_every_frame(encoded(tmp_path / "a.mp4", container_options={"movflags": "frag_keyframe+empty_moov"}))


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_recording_that_starts_between_keyframes(tmp_path, codec):
    whole = encoded(tmp_path / "whole.ts", codec).read_bytes()
    tables, half = 3 * 188, len(whole) // 376 * 188
    (tmp_path / "half.ts").write_bytes(whole[:tables] + whole[half:])
    check_every_frame(tmp_path / "half.ts")


def test_recordings_in_one_file_whose_time_stamps_start_again(tmp_path):
    one = encoded(tmp_path / "one.ts").read_bytes()
    (tmp_path / "two.ts").write_bytes(one + one)
    check_every_frame(tmp_path / "two.ts")


def test_large_files_are_not_read_to_their_end(tmp_path, monkeypatch):
    monkeypatch.setattr(video_timing, "_MAX_COUNTED_BYTES", 100)
    monkeypatch.setattr(video_timing, "_from_packets", None)
    for name in ("a.mkv", "a.ts", "a.flv"):
        check_every_frame(encoded(tmp_path / name))


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.flv", "a.ts"])
def test_a_variable_rate(tmp_path, name):
    """The rate is that without pauses, the length is what a player shows, and clips are resampled by time."""
    starts, clock = [], 0
    for number in range(40):
        starts.append(clock)
        clock += 400 if number % 13 == 5 else 40
    path = encoded(tmp_path / name, ticks=starts)
    info = probe(path)
    assert not info.is_constant
    assert (info.num_frames, info.num_even_frames) == (40, 67)
    assert info.fps == pytest.approx(25)
    assert info.duration_s == pytest.approx(2.68, abs=0.002)
    order = list(range(40))
    random.Random(0).shuffle(order)
    with open_reader(path) as reader:
        assert numbers_in(np.concatenate([reader.frames_at([starts[n] / 1000 + 0.02]) for n in order])) == order
    clip = read_clip(path)
    assert clip.fps == pytest.approx(25)
    assert numbers_in(clip.frames) == [sum(start <= 40 * n + 20 for start in starts) - 1 for n in range(67)]
    assert numbers_in(read_clip(path, max_frames=5).frames) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("name", ["a.mkv", "a.ts", "a.gif"])
def test_files_in_memory_can_be_started_again(tmp_path, name):
    path = encoded(tmp_path / name, "gif" if name.endswith("gif") else "libx264")
    with open_reader(io.BytesIO(path.read_bytes()), "memory") as reader:
        assert [numbers_in(reader.frames_at([n / 25 + 0.02]))[0] for n in (30, 3, 39, 0)] == [30, 3, 39, 0]
