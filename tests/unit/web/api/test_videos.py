import numpy as np
import pytest

from tests.unit.web.conftest import problem
from videocrafter.media.video_file import sidecar_path, write_video


@pytest.fixture
def video(studio, add_video):
    identity = add_video("<img src=x onerror=alert(1)>")
    frames = np.random.default_rng(0).integers(0, 256, (5, 16, 16, 3), dtype=np.uint8)
    write_video(studio.folder.video(identity), frames, 8, {"prompt": "a cat", "seed": 1}, overwrite=True)
    return identity


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


def files_of(studio, video):
    path = studio.folder.video(video)
    return [one for one in (path, sidecar_path(path), studio.folder.poster(video)) if one.exists()]


def test_a_video_is_removed_for_good_only_if_that_is_asked(client, studio, video, add_video):
    kept = add_video()
    for _ in range(2):  # a client that lost the answer asks again
        assert client.delete(f"/api/v1/videos/{video}").json()["deleted"]
    binned_s = studio.videos.get(video).deleted_s
    client.delete(f"/api/v1/videos/{video}")
    assert studio.videos.get(video).deleted_s == binned_s
    assert len(files_of(studio, video)) == 3
    client.delete(f"/api/v1/videos/{video}?for_good=true")
    problem(client.get(f"/api/v1/videos/{video}"), 404, "not-found")
    assert files_of(studio, video) == []
    assert files_of(studio, kept)


def test_the_bin_is_emptied(client, studio, video, add_video):
    kept, other = add_video(), add_video()
    for one in (video, other):
        client.delete(f"/api/v1/videos/{one}")
    seen = studio.events.newest()
    assert client.delete("/api/v1/bin").json() == {"removed": 2}
    assert studio.videos.ids() == {kept}
    assert files_of(studio, video) + files_of(studio, other) == []
    # Other tabs must see it.
    assert {(event.kind, event.subject) for event in studio.events.after(seen)} == {
        ("video", video),
        ("video", other),
    }
    assert client.delete("/api/v1/bin").json() == {"removed": 0}
