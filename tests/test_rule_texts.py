"""What users read of every rule, word for word: ``golden/rules.json``.

Each text there was held against the source: a wrong citation or a wrong assumption misleads as badly
as a wrong number. After a change on purpose, check the new words against the paper, then write the
file anew with ``python tests/test_rule_texts.py`` and read what changed in it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hyperverify.formulas import METHODS, RULES, describe, rules_table
from hyperverify.rule import Rule
from hyperverify.rule_arguments import Argument

GOLDEN = Path(__file__).with_name("golden") / "rules.json"


def told(rule: Rule) -> dict[str, Any]:
    """What a rule says of itself, but for its formula."""
    entering = {a.name for a in rule.entering}
    found: dict[str, Any] = {
        "title": rule.title,
        "citation": rule.citation,
        "gives": rule.quantity,
        "assumptions": list(rule.assumptions),
        "signature": rule.signature,
        "also accepted": [a.name for a in rule.arguments if a.name not in entering],
    }
    if rule.variants:
        found["needed"] = {v: [a.name for a in rule.needed({"variant": v})] for v in rule.variants}
    return found


def printed(rule: Rule) -> dict[str, Any]:
    """Its formula; as it is made by sympy, it takes a while."""
    return {"text": rule.text(), "latex": rule.latex()}


def vocabulary_table() -> list[dict[str, Any]]:
    """Every argument in so many words, and the rules that take it."""
    rules: dict[Argument, list[str]] = {}
    for rule in RULES.values():
        for argument in rule.arguments:
            rules.setdefault(argument, []).append(rule.id)
    return [
        {
            "name": a.name,
            "symbol": a.symbol,
            "description": a.description,
            "allowed": a.allowed,
            "default": "required" if a.required else repr(a.default),
            "rules": " ".join(ids),
        }
        for a, ids in rules.items()
    ]


def methods_table() -> dict[str, Any]:
    return {
        name: {"name": m.name, "H": m.H, "G": m.G, "chunked": m.chunked}
        for name, m in METHODS.items()
    }


def golden() -> Any:
    return json.loads(GOLDEN.read_text("utf-8"))


@pytest.fixture(scope="module")
def kept() -> Any:
    return golden()


@pytest.mark.parametrize("rule_id", RULES)
def test_a_rule_says_of_itself_what_was_checked(rule_id: str, kept: Any) -> None:
    expected = kept["rules"][rule_id]
    assert told(RULES[rule_id]) == {k: v for k, v in expected.items() if k not in ("text", "latex")}


@pytest.mark.parametrize("rule_id", RULES)
def test_a_formula_prints_as_it_was_checked(rule_id: str, kept: Any) -> None:
    rule = RULES[rule_id]
    assert {"id": rule.id} | printed(rule) == {
        "id": rule_id,
        "text": kept["rules"][rule_id]["text"],
        "latex": kept["rules"][rule_id]["latex"],
    }


def test_arguments_are_described_as_was_checked(kept: Any) -> None:
    assert vocabulary_table() == kept["arguments"]


def test_methods_name_the_rules_that_were_checked(kept: Any) -> None:
    assert methods_table() == kept["methods"]


def test_nothing_else_is_on_record(kept: Any) -> None:
    assert list(kept) == ["rules", "arguments", "methods"]
    assert list(kept["rules"]) == list(RULES)


def test_the_table_of_rules_shows_them(kept: Any) -> None:
    """The command ``hyperverify formulas`` prints these rows."""
    assert rules_table() == [
        {
            "id": rule_id,
            "title": row["title"],
            "quantity": row["gives"],
            "text": row["text"],
            "latex": row["latex"],
            "citation": row["citation"],
            "arguments": row["signature"],
        }
        for rule_id, row in kept["rules"].items()
    ]


def test_describe_shows_all_there_is_to_know(kept: Any) -> None:
    row = kept["rules"]["A2.in.G"]
    found = describe("A2.in.G", {"K": "2", "d_i": 4, "d_j": "6"})
    arguments = found.pop("arguments")
    assert found == {
        "id": "A2.in.G",
        "title": row["title"],
        "quantity": "Var(G)",
        "text": row["text"],
        "latex": row["latex"],
        "citation": row["citation"],
        "assumptions": row["assumptions"],
        "given": {"K": "2", "d_i": "4", "d_j": "6"},
        "missing": ["d_l", "var_e"],
        "value": None,
        "number": None,
        "partial": r"\mathrm{Var}(G) = \frac{2^{I_{\mathrm{ReLU}}}}{6 d_l r \mathrm{Var}(e^{[t][m]})}",
    }
    # d_i and K are accepted, but the formula does without them
    assert [(a["name"], a["default"], a["required"]) for a in arguments] == [
        ("d_j", None, True),
        ("d_l", None, True),
        ("var_e", None, True),
        ("r", 1, False),
        ("relu", False, False),
        ("d_i", None, False),
        ("K", None, False),
    ]
    assert arguments[2] == {
        "name": "var_e",
        "symbol": r"\mathrm{Var}(e^{[t][m]})",
        "description": "E[e^2] of a chunk's embedding",
        "allowed": "a finite number greater than 0",
        "default": None,
        "required": True,
    }


def _write() -> None:
    GOLDEN.parent.mkdir(exist_ok=True)
    rules = {rule_id: told(rule) | printed(rule) for rule_id, rule in RULES.items()}
    whole = {"rules": rules, "arguments": vocabulary_table(), "methods": methods_table()}
    GOLDEN.write_text(json.dumps(whole, indent=2, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    _write()
