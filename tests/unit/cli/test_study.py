import json

import pytest

from tests.tiny_studies import SYSTEMS, expected_choice, make_tiny_study, write_systems
from videocrafter.evaluation.study.design import read_design
from videocrafter.evaluation.study.store import DATABASE_FILE, AnswerStore, open_database


@pytest.fixture
def folders(tmp_path):
    return write_systems(tmp_path, prompts=2)


def test_from_folders_to_a_report(cli, folders, tmp_path, monkeypatch):
    served = {}
    monkeypatch.setattr("uvicorn.run", lambda app, **settings: served.update(app=app, **settings))
    old, new = (folders[name] for name in SYSTEMS)
    made = cli("study", "new", f"before={old}", new, "-o", tmp_path / "study", "--aspects", "overall", "--checks", 1)
    assert made.exit_code == 0, made.output
    assert "2 questions about 2 prompts" in made.stdout
    design = read_design(tmp_path / "study")
    assert design.systems == ("before", "newmodel")
    result = cli("study", "serve", tmp_path / "study", "--port", 7999)
    assert result.exit_code == 0, result.output
    assert (served["host"], served["port"], served["access_log"]) == ("127.0.0.1", 7999, False)
    assert served["timeout_keep_alive"] > 60  # raters think longer than uvicorn's 5 seconds
    served["app"].state.study.close()
    connection = open_database(tmp_path / "study" / DATABASE_FILE, design)
    store = AnswerStore(design, connection)
    rater = store.rater(store.join())
    for position in range(store.progress(rater).total):
        task, _ = store.task(rater, position)
        answer = {"overall": expected_choice(design, task.item, task.swapped, 1)}
        store.answer(rater, position, answer, revision=0, request="r", seconds=4, plays=1)
    connection.close()
    result = cli("study", "report", tmp_path / "study", "--draws", 20)
    assert result.exit_code == 0, result.output
    assert "newmodel" in result.stdout
    report = json.loads((tmp_path / "study" / "report" / "report.json").read_text())
    assert report["aspects"]["overall"]["systems"]["newmodel"]["score"] == 1.0


def test_invited_raters_get_whole_links(cli, tmp_path, monkeypatch):
    made = make_tiny_study(tmp_path, prompts=1, invitations=1)
    monkeypatch.setattr("uvicorn.run", lambda app, **_: app.state.study.close())
    result = cli("study", "serve", tmp_path / "study", "--port", 7999)
    assert f"Personal link: http://localhost:7999/#{made.tokens[0]}\n" in result.stdout


def test_wrong_studies_are_one_line(cli, folders, tmp_path):
    old, new = folders.values()
    for arguments, word in (
        (["new", old, new, "-o", tmp_path / "s", "--kind", "guesses"], "kind is 'guesses'"),
        (["new", old, "-o", tmp_path / "s"], "expected at least 2"),
        (["new", old, new, "-o", tmp_path / "s", "--votes", 0], "--votes is 0"),
        (["new", old, tmp_path / "none", "-o", tmp_path / "s"], "none"),
        (["new", old, new, "-o", tmp_path], "already exists"),
        (["serve", tmp_path], "is not a study"),
        (["report", tmp_path], "is not a study"),
    ):
        result = cli("study", *arguments)
        assert result.exit_code == 2, result.output
        assert word in result.stderr.splitlines()[-1]
    assert not (tmp_path / "s").exists()
