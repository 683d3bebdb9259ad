import threading

import pytest
from torch import nn

from videocrafter.pipelines.running_calls import running_call

NETWORK = nn.Identity()


def started(*calls):
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    return threads


def test_calls_run_at_the_same_time_unless_one_is_alone():
    meeting = threading.Barrier(2, timeout=10)
    inside, most, alone_with = [], [], []

    def shared():
        with running_call(NETWORK):
            inside.append(1)
            meeting.wait()
            most.append(len(inside))
            meeting.wait()
            inside.pop()

    def alone():
        with running_call(NETWORK, alone=True):
            alone_with.append(len(inside))

    with running_call(NETWORK), running_call(nn.Identity(), alone=True):
        threads = started(alone)
        started_shared = started(shared, shared)
        for thread in started_shared:
            thread.join(10)
        assert alone_with == []
    threads[0].join(10)
    assert max(most) == 2
    assert alone_with == [0]


def test_a_call_may_start_others_in_its_own_thread():
    with running_call(NETWORK), running_call(NETWORK, alone=True), running_call(NETWORK):
        other = started(lambda: running_call(NETWORK).__enter__())[0]
        other.join(0.05)
        assert other.is_alive(), "it waits, although the call inside the lonely one is not alone"
    other.join(10)
    assert not other.is_alive()


def test_an_error_ends_a_call():
    network = nn.Identity()
    with pytest.raises(ValueError, match="failed"), running_call(network, alone=True):
        raise ValueError("failed")
    (thread,) = started(lambda: running_call(network, alone=True).__enter__())
    thread.join(10)
    assert not thread.is_alive()
