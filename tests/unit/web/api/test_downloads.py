"""Every form of a video: content, type, name, and what HTTP promises about it."""

import io
import json
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.unit.web.conftest import problem
from videocrafter.media.video_file import read_metadata, write_video
from videocrafter.media.video_reader import VideoReader
from videocrafter.web.api import downloads

FORMS = {
    ".mp4": "video/mp4",
    ".gif": "image/gif",
    "/frames.zip": "application/zip",
    "/poster": "image/webp",
    "/film/0.webp": "image/webp",
}


@pytest.fixture
def video(studio, add_video):
    identity = add_video("<img src=x onerror=alert(1)>")
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    write_video(studio.folder.video(identity), frames, 8, {"prompt": "a cat", "seed": 1}, overwrite=True)
    return f"/api/v1/videos/{identity}"


def test_all_forms_give_frames_and_settings(client, video, tmp_path):
    gif = client.get(f"{video}.gif")
    (tmp_path / "v.gif").write_bytes(gif.content)
    assert read_metadata(tmp_path / "v.gif")["prompt"] == "<img src=x onerror=alert(1)>"
    with Image.open(tmp_path / "v.gif") as image:
        assert image.n_frames == 5
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"{video}/frames.zip").content))
    assert archive.testzip() is None
    assert archive.namelist() == [f"frame_{number:06d}.png" for number in range(5)]
    with Image.open(io.BytesIO(archive.read("frame_000004.png"))) as image:
        assert image.size == (16, 16)
        assert json.loads(image.text["Comment"])["seed"] == 1
    assert client.get(f"{video}/recording").json()["seed"] == 1


def test_downloads_have_names_and_players_do_not(client, video):
    for path, suffix in ((".gif", "gif"), ("/frames.zip", "zip"), ("/recording", "json"), (".mp4?download=1", "mp4")):
        name = client.get(f"{video}{path}").headers["content-disposition"]
        assert name.startswith('attachment; filename="videocrafter-')
        assert name.endswith(f'.{suffix}"')
    for path in (".mp4", "/poster", "/film/0.webp"):
        assert "content-disposition" not in client.get(f"{video}{path}").headers


@pytest.mark.parametrize(("path", "kind"), FORMS.items())
def test_head_and_entity_tags(client, video, path, kind):
    whole = client.get(f"{video}{path}")
    assert whole.status_code == 200
    assert whole.headers["content-type"] == kind
    head = client.head(f"{video}{path}")
    assert (head.status_code, head.content) == (200, b"")
    same = ("content-type", "etag", "content-length", "cache-control")
    assert [head.headers.get(name) for name in same] == [whole.headers.get(name) for name in same]
    tag = whole.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = client.get(f"{video}{path}", headers={"If-None-Match": known})
        assert (answer.status_code, answer.content) == (304, b"")
        assert answer.headers["etag"] == tag
        assert ("no-cache" if "film" in path else "immutable") in answer.headers["cache-control"]
    assert client.get(f"{video}{path}", headers={"If-None-Match": '"other"'}).content == whole.content


def test_tags_differ_by_form_and_change_with_the_file(client, studio, video):
    tags = [client.head(f"{video}{path}").headers["etag"] for path in FORMS]
    assert len(set(tags)) == len(tags)
    file = studio.folder.video(video.rpartition("/")[2])
    file.write_bytes(file.read_bytes() + b"\0\0\0\x08free")
    assert client.head(f"{video}.mp4").headers["etag"] not in tags


def test_pictures_of_another_layout_are_sent_again(client, video, monkeypatch):
    tag = client.get(f"{video}/film/0.webp").headers["etag"]
    monkeypatch.setattr(downloads, "FILM_FORM", "film-of-a-later-version")
    assert client.get(f"{video}/film/0.webp", headers={"If-None-Match": tag}).status_code == 200


def test_ranges(client, video):
    whole = client.get(f"{video}.mp4")
    size = len(whole.content)
    assert whole.headers["accept-ranges"] == "bytes"
    for asked, first, last in (("10-19", 10, 19), (f"{size - 5}-", size - 5, size - 1), ("-7", size - 7, size - 1)):
        part = client.get(f"{video}.mp4", headers={"Range": f"bytes={asked}"})
        assert (part.status_code, part.content) == (206, whole.content[first : last + 1])
        assert part.headers["content-range"] == f"bytes {first}-{last}/{size}"
    several = client.get(f"{video}.mp4", headers={"Range": "bytes=0-1,10-11"})
    assert several.status_code == 206
    assert several.headers["content-type"].startswith("multipart/byteranges")
    for asked in (f"{size}-", "99999999-", "-0"):
        answer = client.get(f"{video}.mp4", headers={"Range": f"bytes={asked}"})
        assert f"has {size} bytes" in problem(answer, 416, "range-not-satisfiable")
        assert answer.headers["content-range"] == f"bytes */{size}"
    for asked in ("bytes=a-b", "bytes=5", "frames=1-2", f"bytes={'9' * 5000}-", f"bytes=-{'9' * 5000}"):
        problem(client.get(f"{video}.mp4", headers={"Range": asked}), 400, "invalid-range")


def test_a_part_of_an_older_version_is_not_mixed_with_a_newer_one(client, video):
    whole = client.get(f"{video}.mp4")
    part = {"Range": "bytes=0-3"}
    assert client.get(f"{video}.mp4", headers={**part, "If-Range": whole.headers["etag"]}).status_code == 206
    older = client.get(f"{video}.mp4", headers={**part, "If-Range": '"older"'})
    assert (older.status_code, older.content) == (200, whole.content)
    beyond = client.get(f"{video}.mp4", headers={"Range": "bytes=99999999-", "If-Range": '"older"'})
    assert beyond.status_code == 200


def test_head_answers_for_every_kind_of_route(client, video):
    for path in ("/", "/gallery", "/static/make.js", "/api/v1/health", "/api/v1/videos", video):
        answer = client.head(path)
        assert (answer.status_code, answer.content) == (200, b""), path
    # A stream ends after its headers.
    assert client.head("/api/v1/events").headers["content-type"].startswith("text/event-stream")
    assert client.head("/api/v1/videos/none").status_code == 404
    assert client.head("/api/v1/queue/pause").status_code == 405


def test_a_damaged_file_is_an_error_before_the_download_begins(client, studio, video):
    studio.folder.video(video.rpartition("/")[2]).write_bytes(b"damaged")
    for path in (".gif", "/frames.zip", "/film/0.webp"):
        assert "Reuse settings" in problem(client.get(f"{video}{path}"), 500, "file-damaged")


def test_a_rate_that_a_gif_cannot_have(client, add_video):
    fast = add_video("fast", playback_fps=60.0)
    assert "download the mp4" in problem(client.get(f"/api/v1/videos/{fast}.gif"), 422, "too-fast-for-gif")


def test_no_form_holds_the_whole_video(client, video, monkeypatch):
    monkeypatch.delattr(VideoReader, "first_frames")
    for path in (".gif", "/frames.zip", "/film/0.webp"):
        assert client.get(f"{video}{path}").status_code == 200
