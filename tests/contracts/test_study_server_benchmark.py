"""The benchmark of the study server: it finds lost and doubled answers, and there are none."""

import json

import pytest
from benchmarks import study_server

from videocrafter.evaluation.study.design import read_design
from videocrafter.evaluation.study.store import open_database, token_hash


@pytest.mark.slow
def test_killed_servers_lose_and_double_nothing(tmp_path):
    faults, num_answers = study_server.kill_repeatedly(study_server.make_study(tmp_path, 20), 2, raters=4)
    assert faults == []
    assert num_answers > 0


def test_lost_changed_and_doubled_answers_are_found(tmp_path):
    study = study_server.make_study(tmp_path, 1)
    database = open_database(study / "answers.sqlite3", read_design(study))
    database.execute("INSERT INTO raters VALUES (1, ?, 'active')", (token_hash("t"),))
    left, right = {"overall": "left"}, {"overall": "right"}
    for position, answer, revision in ((0, left, 1), (1, left, 2), (3, left, 1)):
        database.execute("INSERT INTO tasks VALUES (1, ?, 0, 0, 'vote', 0)", (position,))
        database.execute(
            "INSERT INTO answers VALUES (1, ?, ?, 'r', ?, 1, 1)", (position, revision, json.dumps(answer))
        )
    sent = study_server.Sent(token="t", acknowledged={0: right, 1: left, 2: left})
    assert study_server.faults_in(database, [sent]) == [
        "the answer to question 0 is {'overall': 'left'}, not {'overall': 'right'}",
        "the answer to question 2 is lost, not {'overall': 'left'}",
        "question 1 was answered 2 times",
        "there are gaps between the answers [0, 1, 3]",
    ]
    database.close()


def test_the_share_of_a_percentile_counts():
    assert study_server.percentile([1.0, 2.0, 3.0, 4.0], 0.5) == 3.0
    assert study_server.percentile([1.0], 0.95) == 1.0


def test_ratios_are_those_of_the_95th_percentiles():
    times = {"join": [10.0, 20.0], "answer": [30.0]}
    rows, p95 = study_server.compared(times, {"join": [5.0], "answer": [10.0, 10.0]})
    assert rows == [
        ("join", 2, 20.0, 20.0, 20.0, 4.0),
        ("answer", 1, 30.0, 30.0, 30.0, 3.0),
        ("all", 3, 20.0, 30.0, 30.0, 3.0),
    ]
    assert p95 == 30.0
