"""Deadlines: kept in endless loops, never at the price of a torch mode that stays behind."""

from __future__ import annotations

import signal
import time

import pytest
import torch
from small_nets import STRUCTURES
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

from hyperverify.tracing.alarm import Alarm, OutOfTime
from hyperverify.tracing.replicates import Replicates


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def test_what_is_in_time_is_not_disturbed() -> None:
    assert Alarm(time.monotonic() + 60).call(spin, 0.01) == "done"
    assert Alarm(None).call(spin, 0.01) == "done"


def test_an_endless_loop_ends() -> None:
    handler = signal.getsignal(signal.SIGALRM)
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        Alarm(start + 0.2).call(spin, 1e9)
    assert time.monotonic() - start < 5
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_swallowing_everything_once_does_not_help() -> None:
    def stubborn() -> None:
        for _ in range(2):
            try:  # noqa: SIM105
                spin(1e9)
            except BaseException:  # noqa: BLE001, S110
                pass
        spin(1e9)

    with pytest.raises(OutOfTime):
        Alarm(time.monotonic() + 0.1).call(stubborn)


@pytest.mark.parametrize("name", ["vmap_over_samples", "checkpointed", "relu_trunk"])
def test_no_mode_stays_behind(name: str) -> None:
    """Deadlines in all places of a traced call; torch is as before after each of them."""
    expected = STRUCTURES[name]
    stream = Replicates(expected.factory, expected.shape, None, 0, None)
    late = 0
    for n in range(60):
        stream._alarm = Alarm(time.monotonic() + 2e-4 * n)
        try:
            stream.draw(n)
        except OutOfTime:
            late += 1
        assert _get_current_dispatch_mode_stack() == []
        assert torch.is_grad_enabled()
        assert torch.vmap(torch.sin)(torch.zeros(3)).shape == (3,)
    assert late > 0
    stream._alarm = Alarm(None)
    assert stream.draw(1).analysis.structure == stream.first.analysis.structure
