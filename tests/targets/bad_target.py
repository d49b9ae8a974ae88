"""Bad targets of ``hyperverify check``: what each is, its exit status, and words of its message.

A target is text: a test writes `files` into an empty folder, goes there and runs
``hyperverify check TARGET OPTIONS`` with no standard input. The network in PREAMBLE is right by
hyperfan-in, so that only what a target does besides decides.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from textwrap import dedent
from typing import Any

PREAMBLE = """\
import math
import os
import random
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.e = nn.Parameter(torch.randn(2, 12))
        self.A = nn.Parameter(torch.randn(24, 16, 12) * math.sqrt(2 / (16 * 12)))
        self.B = nn.Parameter(torch.randn(8, 24, 12) * math.sqrt(1 / (24 * 12)))

    def forward(self, x):
        return F.linear(F.relu(F.linear(x, self.A @ self.e[0])), self.B @ self.e[1])


"""
INPUT = ("--input", "16", "--expect", "hyperfan-in")
VERIFIED, REFUTED, BAD, INCONCLUSIVE = 0, 1, 2, 3


@dataclass(frozen=True)
class Bad:
    """One bad target.

    Attributes:
        name: what it is.
        exits: the exit statuses that will do; the first is the one to be preferred.
        files: name -> content of what stands in the folder; bytes where it is no text.
        target: the command's argument.
        options: what follows it.
        words: regular expressions (case does not matter), each of which the message matches.
        state: what a call in one's own process must leave as it found it.
    """

    name: str
    exits: tuple[int, ...]
    files: Mapping[str, str | bytes]
    target: str = "target.py:factory"
    options: tuple[str, ...] = INPUT
    words: tuple[str, ...] = ()
    state: Callable[[], Any] | None = field(default=None, compare=False)


TARGETS: list[Bad] = []


def bad(name, exits, code, *words, target="target.py:factory", options=INPUT, state=None):
    """Declares a target whose file is PREAMBLE followed by the code."""
    given = (exits,) if isinstance(exits, int) else exits
    files = {"target.py": PREAMBLE + dedent(code).lstrip("\n")}
    TARGETS.append(Bad(name, given, files, target, options, words, state))


def files(name, given, *words, target="target.py:factory", options=INPUT):
    """Declares a target that does not import, with its folder's content as it is."""
    TARGETS.append(Bad(name, (BAD,), given, target, options, words))


RIGHT = "def factory():\n    return Net()\n"
