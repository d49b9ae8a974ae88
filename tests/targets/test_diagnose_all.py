"""A sample of the hypernets in `diagnose_all.py`: one for each mistake, and a few right ones."""

from __future__ import annotations

import diagnose_all
import pytest
import right
import wrong
from target import MISTAKES, Target

FIRST = {target.mistake: target for target in reversed(wrong.TARGETS)}


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_on_the_list_is_refuted_and_named(name: str) -> None:
    row = diagnose_all.judge(FIRST[name], FIRST[name].expect[0], 120.0, 0)
    assert row.verdict == "REFUTED"
    assert row.named, row.found


@pytest.mark.parametrize("target", right.TARGETS[::12], ids=lambda target: target.name)
def test_right_ones_have_no_diagnosis(target: Target) -> None:
    row = diagnose_all.judge(target, target.expect[0], 120.0, 0)
    assert (row.verdict, row.found) == ("VERIFIED", ())
