"""Uploads that nothing names are removed after some time; all others stay."""

from videocrafter.web.maintenance import clean
from videocrafter.web.store.uploads import Upload


def add(studio, identity):
    sizes = {"width": 1, "height": 1, "num_bytes": 1}
    studio.uploads.add(Upload(id=identity, kind="image", suffix=".png", sha256=identity, **sizes))
    studio.folder.upload(identity, ".png").write_bytes(b"x")
    studio.database.connection.execute("UPDATE uploads SET created_s = 0 WHERE id = ?", (identity,))


def test_only_old_uploads_without_a_use_are_removed(studio, add_video):
    ids = {name: name * 32 for name in "abcd"}
    for identity in ids.values():
        add(studio, identity)
    video = add_video()
    studio.database.connection.execute("DELETE FROM jobs WHERE state = 'done'")
    studio.database.connection.execute(
        "UPDATE videos SET request = ? WHERE id = ?", (f'{{"prompt": "a", "image": "{ids["b"]}"}}', video)
    )
    studio.jobs.add({"prompt": "a", "image": ids["a"]}, most_queued=9)
    # Uploading it again is a use.
    sizes = {"width": 1, "height": 1, "num_bytes": 1}
    again = Upload(id="e" * 32, kind="image", suffix=".png", sha256=ids["c"], **sizes)
    assert studio.uploads.add(again).id == ids["c"]
    clean(studio)
    assert sorted(path.stem for path in studio.folder.uploads.glob("*.png")) == [ids["a"], ids["b"], ids["c"]]
