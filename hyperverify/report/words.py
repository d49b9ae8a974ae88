"""The report's wording: numbers that can be read, settings, and the guarantee as a sentence."""

from __future__ import annotations

import math
import re
from typing import Final

from hyperverify.store import Check, Part, Run, RunHead

_SUPERSCRIPT: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# What each family of rule ids is, for a reader who has not the paper beside the screen.
RULE_NAMES: Final = {
    "T1.in.H": "Table 1, hyperfan-in, output layer of the weights",
    "T1.in.G": "Table 1, hyperfan-in, output layer of the biases",
    "T1.out.H": "Table 1, hyperfan-out, output layer of the weights",
    "T1.out.G": "Table 1, hyperfan-out, output layer of the biases",
    "T1.harmonic.H": "harmonic mean of hyperfan-in and hyperfan-out, weights",
    "T1.harmonic.G": "harmonic mean of hyperfan-in and hyperfan-out, biases",
    "T1.geometric.H": "geometric mean of hyperfan-in and hyperfan-out, weights",
    "T1.geometric.G": "geometric mean of hyperfan-in and hyperfan-out, biases",
    "T1.arithmetic.H": "arithmetic mean of hyperfan-in and hyperfan-out, weights",
    "T1.arithmetic.G": "arithmetic mean of hyperfan-in and hyperfan-out, biases",
    "A1.H": "Appendix A.1, one output layer shared by several mainnet layers",
    "A1.grad": "Appendix A.1, gradients of a shared output layer",
    "A2.H": "Appendix A.2, chunked hypernet, output layer",
    "A2.in.G": "Appendix A.2, chunked hypernet, hyperfan-in",
    "A2.out.G": "Appendix A.2, chunked hypernet, hyperfan-out",
    "C.fan_in": "classical fan-in (Xavier, Kaiming)",
    "C.fan_out": "classical fan-out (Xavier, Kaiming)",
    "C.harmonic": "classical, harmonic mean of the fans",
    "C.geometric": "classical, geometric mean of the fans",
    "C.arithmetic": "classical, arithmetic mean of the fans",
    "C.torch_default": "torch.nn.Linear as it comes",
    "M1": "Section 3, Xavier or Kaiming on a hypernet",
    "M2": "Section 3, small random values",
    "M3": "Section 3, Kaiming scaled down",
    "M4": "Section 3, Kaiming with a constant embedding",
    "orthogonal": "orthonormal columns (Saxe et al.)",
}
QUANTITIES: Final = {
    "embedding": "embedding, E[e²]",
    "trunk": "hypernet features, E[h²]",
    "weights": "generated weights, E[W²]",
    "row sums": "row sums of the weights",
    "column sums": "column sums of the weights",
    "biases": "generated biases, E[b²]",
    "forward": "forward activations",
    "active": "share of active units",
    "backward": "backward gradients",
    "dL/dW": "weight gradient, dL/dW",
    "dL/dh": "hypernet gradient, dL/dh",
    "dL/dH": "output-layer gradient, dL/dH",
    "dL/dg": "bias hypernet gradient, dL/dg",
    "dL/dG": "bias output-layer gradient, dL/dG",
    "depth": "depth, mean log gain a layer",
}
LAWS: Final = {
    "exact": "exact",
    "conservative": "conservative",
    "calibrated": "calibrated by simulation, not proven",
}
CALIBRATED: Final = "calibrated"
_CATALOGUES: Final = {"grid": "", "paper": "paper’s shapes"}
_RELU: Final = {"none": "no ReLU", "all": "ReLU", "mixed": "ReLU mixed"}


def number(value: float | None, digits: int = 4) -> str:
    """A number with four significant digits, thousands separators and a readable exponent.

    Integers (a count, degrees of freedom) are written in full up to 15 digits.
    """
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, int):
        return f"{value:,}".replace("-", "\N{MINUS SIGN}")
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "\N{INFINITY}" if value > 0 else "\N{MINUS SIGN}\N{INFINITY}"
    if not value:
        return "0"
    text = f"{value:.{digits - 1}e}"
    mantissa, exponent = text.split("e")
    power = int(exponent)
    if -4 <= power < 7:
        text = f"{float(text):,.{max(digits - 1 - power, 0)}f}"
    else:
        text = f"{mantissa} × 10{str(power).translate(_SUPERSCRIPT)}"
    return text.replace("-", "\N{MINUS SIGN}")


def power_of_ten(power: int) -> str:
    """10 to that power, the common ones written out."""
    written = {-2: "0.01", -1: "0.1", 0: "1", 1: "10", 2: "100"}
    return written.get(power) or f"10{str(power).translate(_SUPERSCRIPT)}"


def short(value: float) -> str:
    """A setting as someone typed it, so without trailing zeros: ``0.001``, ``10⁻⁶``."""
    text = number(value, 3)
    mantissa, times, power = text.partition(" × ")
    if "." in mantissa:
        mantissa = mantissa.rstrip("0").rstrip(".")
    return power if times and mantissa == "1" else mantissa + times + power


def percent(fraction: float, digits: int = 3) -> str:
    """A fraction as a percentage: ``2 %``, ``0.5 %``."""
    return f"{fraction * 100:.{digits}g}\N{NO-BREAK SPACE}%"


def chance(probability: float) -> str:
    """A probability as odds where they are round: ``1 in 1,000,000``, else as a number."""
    odds = 1 / probability
    if odds < 2 or odds > 1e15:
        return number(probability, 3)
    return f"1\N{NO-BREAK SPACE}in\N{NO-BREAK SPACE}{round(odds):,}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """``1 check``, ``1,204 checks``."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def log_ratio(check: Check, value: float) -> float:
    """log(value / predicted), the report's one scale; for ``"depth"`` values are logs already.

    NaN where the ratio means nothing. Against a prediction of exactly 0, the value 0 agrees and any
    other is infinitely far.
    """
    if check.quantity == "depth":
        return value - check.predicted
    if check.predicted > 0 and value > 0:
        return math.log(value) - math.log(check.predicted)
    if check.predicted > 0 and value == 0:
        return -math.inf
    if check.predicted == 0 and not math.isnan(value):  # the zero law: 0 agrees, all else does not
        return math.copysign(math.inf, value) if value else 0.0
    return math.nan


def deviation(check: Check) -> str:
    """By how much the measurement misses the prediction: ``+0.03 %``, ``× 2.004``, ``÷ 3.1``."""
    if check.predicted == 0 and check.quantity != "depth":
        return "0, exactly" if check.measured == 0 else number(check.measured)
    shift = log_ratio(check, check.measured)
    if not math.isfinite(shift):
        return number(check.measured)
    return offset(shift)


def offset(shift: float, digits: int = 4) -> str:
    """A log ratio in words: ``+0.03 %`` if small, else ``× 2.004`` or ``÷ 3.1``."""
    if math.isnan(shift):
        return "not a number"
    if abs(shift) < math.log(1.2):
        text = f"{100 * math.expm1(shift):+.{max(digits - 2, 0)}f}\N{NO-BREAK SPACE}%"
        return "±0" + text[2:] if not text.strip("+-0.\N{NO-BREAK SPACE}%") else _minus(text)
    size = number(math.exp(abs(shift)), digits) if abs(shift) < 700 else "over 10³⁰⁰"
    return f"{'×' if shift > 0 else '÷'}\N{NO-BREAK SPACE}{size}"


def _minus(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}")


def setting(tags: dict[str, str | bool]) -> str:
    """The setting of a check in words: ``linear, ReLU, biases, own output layer, normal``."""
    relu = str(tags.get("relu", ""))
    words = [
        str(tags.get("kind", "")),
        _RELU.get(relu, relu),
        bias(tags),
        f"{tags['output']} output layer" if "output" in tags else "",
        str(tags.get("distribution", "")),
        _CATALOGUES.get(str(tags.get("group", "")), str(tags.get("group", ""))),
    ]
    return ", ".join(word for word in words if word) or "any setting"


def relu(value: str) -> str:
    """The ReLU tag in words."""
    return _RELU.get(value, value)


def bias(tags: dict[str, str | bool]) -> str:
    """The bias tag in words; empty if there is none."""
    value = tags.get("bias")
    if value is None or isinstance(value, str):
        return value or ""
    return "biases" if value else "no biases"


def prose(text: str) -> str:
    """A sentence of the record with its squares as they are written by hand."""
    return text.replace("^2", "²")


# --- What a failure is. ------------------------------------------------------------------------------


def disagree(check: Check) -> bool:
    """Whether the formula and the oracle give two predictions, whatever was measured."""
    formula, oracle = check.witnesses.formula, check.witnesses.oracle
    return (
        check.verdict == "REFUTED"
        and formula is not None
        and not math.isclose(formula, oracle, rel_tol=1e-8, abs_tol=1e-8)
    )


def finding(check: Check) -> str | None:
    """Which part of a failed check failed, where that is not the whole of it; else None."""
    if check.verdict == "VERIFIED":
        return None
    low, high = check.interval
    if disagree(check):
        formula, oracle = (
            value is not None and low <= value <= high
            for value in (check.witnesses.formula, check.witnesses.oracle)
        )
        holds = {
            (True, True): "both values: the data cannot tell which is right",
            (True, False): "the formula’s value, not the oracle’s",
            (False, True): "the oracle’s value, not the formula’s",
            (False, False): "neither value",
        }[formula, oracle]
        return (
            f"The paper’s formula and the moments oracle predict two things, so the check fails "
            f"whatever is measured; the measured interval holds {holds}."
        )
    failed = [part for part in check.parts if part.verdict == check.verdict]
    if failed:
        verb = "The prediction is excluded" if check.verdict == "REFUTED" else "Still undecided"
        named = ", ".join(f"layer {part.layer + 1} ({_ratio(part)})" for part in failed)
        return f"{verb} at {named}."
    if check.verdict == "REFUTED" and low <= check.predicted <= high:
        return (
            "The interval drawn here holds the prediction, for it combines the parts that make up "
            "this check; one of the parts, seen alone, excludes its own prediction."
        )
    return None


def _ratio(part: Part) -> str:
    if part.predicted > 0 and part.measured > 0 and math.isfinite(part.measured):
        return f"gain {offset(math.log(part.measured) - math.log(part.predicted))}"
    return f"gain {number(part.measured)} for {number(part.predicted)}"


# --- The sentences at the top. -----------------------------------------------------------------------


def guarantee(run: Run) -> str:
    """What the run's verdict is worth, in plain words made of alpha, tolerance and beta."""
    simulated = sum(check.law == CALIBRATED for check in run.checks)
    return guarantee_of(run, len(run.checks), simulated)


def guarantee_of(run: RunHead, total: int, simulated: int) -> str:
    """The same for a run of ``total`` checks, ``simulated`` of them of a calibrated law."""
    false_alarm = chance(run.alpha)
    missed = chance(run.beta)
    margin = percent(run.tolerance)
    right = (
        "If every prediction were right"
        if run.initializer is None
        else "If that initializer kept every prediction"
    )
    if run.verdict == "VERIFIED":
        text = (
            f"{right}, a run like this would raise a false alarm with a "
            f"chance of at most {false_alarm}. If a scale were off by more than {margin}, its check "
            f"would catch it with a chance of at least {percent(1 - run.beta, 6)} (and miss it at "
            f"most {missed} times)."
        )
    elif run.verdict == "REFUTED":
        text = (
            f"{right}, a run like this would refute even one check with a "
            f"chance of at most {false_alarm}. A check that passed could still be off by more than "
            f"{margin} with a chance of at most {missed}."
        )
    else:
        text = (
            "Nothing contradicts a prediction (false alarms in the whole run: at most "
            f"{false_alarm}), but some checks reached their cap before they could show their scale "
            f"to within {margin} (missed errors: at most {missed} a check), and that is not a pass: "
            "raise the budget."
        )
    if not simulated:
        return text
    of = f"{simulated:,} of the checks" if simulated < total else "every check"
    return f"{text} For {of} the law behind these chances is calibrated by simulation, not proven."


def headline(run: Run) -> str:
    """The verdict as a sentence with its counts, claiming no more than the test behind it."""
    return headline_of(run, len(run.checks), sum(disagree(check) for check in run.checks))


def headline_of(run: RunHead, total: int, split: int) -> str:
    """The same for a run of ``total`` checks, in ``split`` of which formula and oracle disagree."""
    checks = plural(total, "check")
    if run.verdict == "VERIFIED":
        every = f"All {checks}" if total > 1 else "The one check"
        return (
            f"{every} passed a test that an error above {percent(run.tolerance)} fails "
            f"{_at_least(run.beta)}."
        )
    if run.verdict == "REFUTED":
        refuted = run.counts.REFUTED
        if split == refuted:
            which = "check" if total == 1 else f"{split:,} of {checks}"
            which = "the one check" if total == 1 else which
            return f"In {which} the paper’s formula and the moments oracle disagree."
        if split:
            return (
                f"{refuted:,} of {checks} are refuted: {refuted - split:,} by the data, "
                f"{split:,} because formula and oracle disagree."
            )
        verb = "contradicts its prediction" if refuted == 1 else "contradict their predictions"
        return f"{refuted:,} of {checks} {verb}."
    return f"{run.counts.INCONCLUSIVE:,} of {checks} ran out of samples undecided."


def subject(run: RunHead, rules: int, methods: int, networks: int) -> str:
    """What was put to the test, for a reader who opens the page without knowing."""
    whose = (
        "its initialization promises? Asked of"
        if run.initializer is None
        else f"its initialization promises? Asked of the initializer {run.initializer}, of"
    )
    return (
        "Do the weights, activations and gradients of a network whose weights another network "
        f"generates start at the scale that {whose} "
        f"{plural(rules, 'rule')}, {plural(methods, 'initialization')} and "
        f"{plural(networks, 'network')} on {run.device}, {run.dtype}."
    )


def citation(run: RunHead) -> str:
    """The paper and this run, as a reader of a paper would look for them."""
    commit = run.environment.git_commit
    made = f", commit {commit[:12]}" if commit else ""
    return (
        "O. Chang, L. Flokas, H. Lipson. Principled Weight Initialization for Hypernetworks. "
        "International Conference on Learning Representations (ICLR), 2020.\n"
        f"hyperverify {run.hyperverify_version}{made}. Suite {run.suite}, root seed "
        f"{run.root_seed}, {run.device}, {run.dtype}, {run.backend}, {run.started[:10]}: "
        f"{run.verdict}."
    )


def _at_least(beta: float) -> str:
    odds = round(1 / beta)
    if odds < 2 or not math.isclose(odds * beta, 1, rel_tol=1e-9):
        return f"with probability {number(1 - beta, 6)} or more"
    return f"at least {odds - 1:,}\N{NO-BREAK SPACE}times in\N{NO-BREAK SPACE}{odds:,}"


def intervals(run: RunHead) -> str:
    """Why an interval may be wider than the tolerance of a check that passed."""
    return (
        "Each interval in this report is wide enough to miss the truth at most once in "
        f"{number(round(1 / run.alpha_per_check))} checks, whereas passing takes evidence of "
        f"{chance(run.beta)}: the interval of a verified check may reach beyond "
        f"±{percent(run.tolerance)}."
    )


def pooled(run: Run) -> str:
    """How many checks the pooled figure is made of: ``15 of 328 checks pooled (one a spec, ...)``."""
    return pooled_of(run, len(run.checks))


def pooled_of(run: RunHead, total: int) -> str:
    """The same for a run of ``total`` checks."""
    if run.pooled is None:
        return ""
    match = re.match(r"(\d{1,9}) (?:independent )?checks?,? ?(.*)", run.pooled.note, re.DOTALL)
    if match is None:
        return f"Evidence pooled ({run.pooled.note})"
    count, rest = match.groups()
    aside = f" ({rest})" if rest else ""
    return f"{int(count):,} of {plural(total, 'check')} pooled{aside}"
