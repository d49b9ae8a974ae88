"""What is said of the right and wrong hypernets, held against plain Monte Carlo.

    python tests/targets/check_truth.py [--replicates 3000] [NAME...]

Every replicate is one call of the factory; the mean squares of what its ``generated()`` lists are
averaged and divided by what the rule promises. Nothing of hyperverify is used. A line is printed for
each target, with every quantity's ratio, standard error and the declared truth; the exit status is 1
if any disagrees.
"""

from __future__ import annotations

import argparse
import math
import sys
from statistics import fmean, stdev

import torch
from target import Target, quantities, ratio

SIGMAS = 4.5  # about 250 quantities: one false alarm in 600 runs
SHARP = 0.03  # a standard error of more than this part of the truth says too little


def rule_of(target: Target) -> str:
    """The rule that the truth refers to."""
    first = target.expect[0]
    return {"forward": "hyperfan-in", "backward": "hyperfan-out"}.get(first, first)


def mean_squares(target: Target, replicates: int, seed: int = 0) -> dict[str, list[float]]:
    """For each generated quantity, the mean square of every replicate."""
    names = quantities(target.layers)
    squares: dict[str, list[float]] = {name: [] for name in names}
    torch.manual_seed(seed)
    for n in range(replicates):
        made = target.factory().generated()
        assert len(made) == len(target.layers), f"{target.name} generates {len(made)} layers"
        for t, ((W, b), layer) in enumerate(zip(made, target.layers, strict=True), 1):
            if n == 0:
                assert (b is not None) == (layer.bias == "generated"), f"{target.name}: b{t}"
                assert W.numel() == layer.n_W, f"{target.name}: W{t} has shape {tuple(W.shape)}"
                assert b is None or b.numel() == layer.out_channels, f"{target.name}: b{t}"
            squares[f"W{t}"].append(W.detach().double().square().mean().item())
            if b is not None:
                squares[f"b{t}"].append(b.detach().double().square().mean().item())
    return squares


def kept(target: Target, squares: dict[str, float], expectation: str) -> list[bool]:
    """Layer by layer: does what the expectation speaks of lie within 10%?"""
    answers = []
    for t, layer in enumerate(target.layers, 1):
        v, u = squares[f"W{t}"], squares.get(f"b{t}", 0.0)
        forward, backward = (1 / 1.1 < gain < 1.1 for gain in layer.gains(v, u))
        if expectation in {"forward", "backward"}:
            answers.append(forward if expectation == "forward" else backward)
        elif expectation == "either":
            answers.append(forward or backward)
        else:
            v0, u0 = layer.promised(expectation)
            right = 1 / 1.1 < ratio(v, v0) < 1.1
            answers.append(right and (f"b{t}" not in squares or 1 / 1.1 < ratio(u, u0) < 1.1))
    return answers


def runs(target: Target) -> None:
    """The model runs on a batch and answers with finite numbers, one row a sample."""
    with torch.no_grad():
        y = target.factory()(torch.randn(3, *target.input))
    assert y.shape[0] == 3, f"{target.name}: {tuple(y.shape)}"
    assert y.isfinite().all(), f"{target.name}: not finite"


def disagreements(target: Target, replicates: int) -> tuple[str, list[str]]:
    """A line of ratios, and what disagrees with the declaration (nothing, where all is well)."""
    runs(target)
    rule = rule_of(target)
    squares = mean_squares(target, replicates)
    shown, wrong, means = [], [], {}
    for t, layer in enumerate(target.layers, 1):
        for name, promised in zip((f"W{t}", f"b{t}"), layer.promised(rule), strict=True):
            if name not in squares:
                continue
            means[name] = fmean(squares[name])
            measured = ratio(means[name], promised)
            truth = target.truth[name]
            error = stdev(squares[name]) / math.sqrt(replicates) / promised if promised else 0.0
            shown.append(f"{name} {measured:.4g} +- {error:.2g} [{truth:.4g}]")
            if measured != truth and not abs(measured - truth) <= SIGMAS * error + 1e-6 * truth:
                wrong.append(f"{name} is {measured:.4g} +- {error:.2g}, declared {truth:.4g}")
            if error > SHARP * max(truth, 1e-3):
                wrong.append(f"{name}'s standard error {error:.2g} is too large to say")
    for expectation in target.expect:
        right = all(kept(target, means, expectation))
        if right != (target.mistake is None):
            wrong.append(f"under {expectation} it is {'right' if right else 'wrong'}")
    return "  ".join(shown), wrong


def main() -> int:
    import right
    import wrong

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help="only these targets")
    parser.add_argument("--replicates", type=int, default=3000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    every = [
        t for t in (*right.TARGETS, *wrong.TARGETS) if not given.names or t.name in given.names
    ]
    bad = 0
    for target in every:
        shown, complaints = disagreements(target, given.replicates)
        mistake = target.mistake or "right"
        sys.stdout.write(f"{target.name} ({rule_of(target)}; {mistake}): {shown}\n")
        for complaint in complaints:
            sys.stdout.write(f"    DISAGREES: {complaint}\n")
        sys.stdout.flush()
        bad += bool(complaints)
    sys.stdout.write(f"{len(every)} targets, {bad} disagree\n")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
