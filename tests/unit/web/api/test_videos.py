import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.unit.web.conftest import problem
from videocrafter.media.video_file import read_metadata, write_video


@pytest.fixture
def video(studio, add_video):
    identity = add_video("<img src=x onerror=alert(1)>")
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    write_video(studio.folder.video(identity), frames, 8, {"prompt": "a cat", "seed": 1}, overwrite=True)
    return identity


def test_a_video_plays_in_parts(client, video):
    whole = client.get(f"/api/v1/videos/{video}.mp4")
    assert whole.headers["content-type"] == "video/mp4"
    assert "immutable" in whole.headers["cache-control"]
    part = client.get(f"/api/v1/videos/{video}.mp4", headers={"Range": "bytes=10-19"})
    assert part.status_code == 206
    assert part.content == whole.content[10:20]
    assert client.get(f"/api/v1/videos/{video}.mp4", headers={"Range": "bytes=99999999-"}).status_code == 416


def test_all_downloads(client, video, tmp_path):
    gif = client.get(f"/api/v1/videos/{video}.gif")
    (tmp_path / "v.gif").write_bytes(gif.content)
    assert read_metadata(tmp_path / "v.gif")["prompt"] == "<img src=x onerror=alert(1)>"
    with Image.open(tmp_path / "v.gif") as image:
        assert image.n_frames == 5
    archive = zipfile.ZipFile(io.BytesIO(client.get(f"/api/v1/videos/{video}/frames.zip").content))
    assert archive.namelist() == [f"frame_{number:06d}.png" for number in range(5)]
    with Image.open(io.BytesIO(archive.read("frame_000000.png"))) as image:
        assert image.size == (16, 16)
    assert client.get(f"/api/v1/videos/{video}/recording").json()["seed"] == 1
    for path in (".gif", "/frames.zip", "/recording", ".mp4?download=1"):
        assert "attachment" in client.get(f"/api/v1/videos/{video}{path}").headers["content-disposition"]


def test_text_of_users_is_never_html(client, video):
    for path in (f"videos/{video}", "videos", f"videos/{video}/recording"):
        answer = client.get(f"/api/v1/{path}")
        assert answer.headers["content-type"] == "application/json"
    assert "<img" not in client.get("/gallery").text.replace('<img src="/static/icon.svg"', "")


def test_star_delete_restore_search(client, video, add_video):
    other = add_video("a dog")
    assert client.patch(f"/api/v1/videos/{video}", json={"starred": True}).json()["starred"]
    listed = lambda query="": [one["id"] for one in client.get(f"/api/v1/videos{query}").json()["videos"]]  # noqa: E731
    assert listed("?starred=true") == [video]
    assert listed("?text=dog") == [other]
    client.delete(f"/api/v1/videos/{video}")
    assert listed() == [other]
    assert listed("?bin=true") == [video]
    client.post(f"/api/v1/videos/{video}/restore")
    assert listed() == [other, video]
    problem(client.get(f"/api/v1/videos/{'0' * 32}"), 404, "not-found")
    problem(client.get(f"/api/v1/videos/{'0' * 32}.mp4"), 404, "not-found")
