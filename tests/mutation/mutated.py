"""Which modules are mutated, by which tests, and how many of their mutants must be killed."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One module under mutation.

    Args:
        module: its name in the package.
        least: the share of its mutants that must be killed, but for listed equivalent ones.
        tests: pytest arguments that select its tests: files or node ids, under ``tests``.
        leave_out: node ids, or beginnings of them, that are too slow for what they add.
    """

    module: str
    least: float
    tests: tuple[str, ...]
    leave_out: tuple[str, ...] = ()


_COUNTED = "test_moments.py::test_expectations_counted_one_by_one"  # seconds long
_RULES = ("test_formulas.py", "test_rule.py", "test_rule_texts.py")
_INIT = ("test_init.py", "test_init_refusals.py", "test_plan_details.py")
_EVIDENCE = (
    "test_evidence.py",
    "test_confidence.py",
    "test_accumulators.py",
    "test_proportion.py",
)

TARGETS = {
    target.module: target
    for target in (
        Target("formulas", 1, _RULES),
        Target("rule", 1, _RULES),
        Target("expressions", 1, _RULES),
        Target("moments", 1, ("test_moments.py", "test_moments_edges.py"), (_COUNTED,)),
        Target("init", 0.9, _INIT),
        Target("hyperfan", 0.9, _INIT),
        Target("plan", 0.9, _INIT),
        Target("pivots", 0.9, ("test_pivots.py",)),
        Target("evidence", 0.9, _EVIDENCE),
        Target("confidence", 0.9, _EVIDENCE),
        Target("proportion", 0.9, _EVIDENCE),
    )
}
