"""Runs made up for the tests of the store and the report: no network is drawn, the laws are real.

``synthetic_run()`` gives about 1200 checks of all three verdicts; ``hostile_run()`` puts a string
that tries to break out of HTML, XML, CSS, LaTeX or a terminal into every string field.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np

from hyperverify.store import Check, Environment, Part, Pooled, Run, Witnesses, count, overall

HOSTILE = (
    "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'`&amp;<![CDATA[ ]]> "
    "\\text{<svg/onload=alert(3)>} {{ 7*191 }} {% raw %} --> \x1b[31m\x0b \u202e javascript:alert(4)"
)

_LATEX_RULE = {
    "T1.in.H": r"\operatorname{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}"
    r"{2^{I_{\mathrm{HBias}}} d_{j} d_{k} \operatorname{Var}(e^{[1]}) r}",
    "T1.in.G": r"\operatorname{Var}(G) = \frac{2^{I_{\mathrm{ReLU}}}}"
    r"{2 d_{l} \operatorname{Var}(e^{[2]})}",
    "T1.out.H": r"\operatorname{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}"
    r"{d_{i} d_{k} \operatorname{Var}(e^{[1]}) r}",
    "T1.out.G": r"\operatorname{Var}(G) = \max\left(\frac{2^{I_{\mathrm{ReLU}}} "
    r"\left(1 - \frac{d_{j}}{d_{i}}\right)}{d_{l} \operatorname{Var}(e^{[2]})}, 0\right)",
    "C.fan_in": r"\operatorname{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}{d_{k}}",
    "C.fan_out": r"\operatorname{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}{n_{W}}",
    "C.harmonic": r"\operatorname{Var}(H) = \frac{2 \cdot 2^{I_{\mathrm{ReLU}}}}{d_{k} + n_{W}}",
    "M3": r"\operatorname{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}{100 d_{k}}",
    "A1.H": r"\operatorname{Var}(H) = \frac{2^{I_{\mathrm{ReLU}}}}{d_{j} d_{k} r}",
    "A2.H": r"\operatorname{Var}(H) = \frac{1}{d_{k}}",
    "A2.in.G": r"\operatorname{Var}(G[t][m]) = \frac{2^{I_{\mathrm{ReLU}}}}"
    r"{d_{j} d_{l} \operatorname{Var}(e[t][m]) r}",
}
_METHODS = {
    "hyperfan-in": ("T1.in.H", "T1.in.G"),
    "hyperfan-out": ("T1.out.H", "T1.out.G"),
    "fan-in": ("C.fan_in",),
    "fan-out": ("C.fan_out",),
    "harmonic": ("C.harmonic",),
    "M3": ("M3",),
}
_QUANTITIES = ("weights", "forward", "backward", "dL/dW", "dL/dh")
_DEPARTURE = (
    "With generated biases hyperfan-in halves the second moment of the gradients at every layer; "
    "the paper does not print this figure."
)


def _parts(rng: np.random.Generator, gains: list[float], df: int) -> tuple[Part, ...]:
    made: list[Part] = []
    for layer, gain in enumerate(gains, start=1):
        spread = math.sqrt(2.0 / df)
        measured = gain * math.exp(spread * rng.standard_normal())
        half = math.exp(6.5 * spread)
        made.append(
            Part(
                layer=layer,
                predicted=gain,
                measured=measured,
                interval=(measured / half, measured * half),
                df=df,
                verdict="VERIFIED",
            )
        )
    return tuple(made)


def synthetic_check(
    rng: np.random.Generator, *, index: int, method: str, tags: dict[str, Any], quantity: str
) -> Check:
    """One check with an honest-looking draw: theta near 1, or far from it one time in 150."""
    rules = _METHODS[method]
    if tags["output"] == "shared":
        rules = ("A1.H", rules[0])
    if tags["output"] == "chunked":
        rules = ("A2.H", "A2.in.G")
    if not tags["bias"]:
        rules = tuple(r for r in rules if not r.startswith("T1") or r.endswith(".H"))
    predicted = 2.0 ** (tags["relu"] != "none") / (64 * (2 if tags["bias"] else 1))
    fate = index % 150
    theta = 2.0 if fate == 77 else 1.0
    df = 1500 if fate == 33 else int(rng.integers(60_000, 400_000))
    verdict = "REFUTED" if fate == 77 else "INCONCLUSIVE" if fate == 33 else "VERIFIED"
    spread = math.sqrt(2.0 / df)
    ratio = theta * math.exp(spread * float(np.clip(rng.standard_normal(), -2.5, 2.5)))
    half = math.exp(6.0 * spread)
    trail = tuple(
        (
            n,
            ratio * math.exp(-7.0 * math.sqrt(2.0 / n)),
            ratio * math.exp(7.0 * math.sqrt(2.0 / n)),
        )
        for n in sorted({max(int(df / 2**k), 16) for k in range(12)})
    )
    measured = predicted * ratio
    interval = (measured / half, measured * half)
    parts: tuple[Part, ...] = ()
    if quantity == "depth":
        rate = {"fan-in": 64.0, "fan-out": 1 / 16, "harmonic": 0.12, "M3": 0.64}.get(method, 1.0)
        gains = [rate * (1.0 if method != "hyperfan-out" else (0.5 if t % 2 else 2.0))
                 for t in range(8)]  # fmt: skip
        parts = _parts(rng, gains, 4000)
        predicted = float(np.mean([math.log(p.predicted) for p in parts]))
        measured = predicted + (math.log(2.0) if fate == 77 else 0.1 * spread)
        interval = (measured - 6 * spread, measured + 6 * spread)
        trail = ()
    widths = [64, 128, 64, 32] if tags["kind"] == "linear" else [8, 16, 8]
    name = f"{method}/{quantity}/{'-'.join(str(v) for v in tags.values())}/{index:04d}"
    return Check(
        id=name,
        rules=rules,
        method=method,
        quantity=quantity,
        layer=None if quantity == "depth" else index % 4,
        architecture=f"{tags['kind']} {'-'.join(map(str, widths))}, d_k = 32",
        tags=tags,
        claim="depth product" if quantity == "depth" else "conditional gain",
        statement=f"Under {method} the second moment of the {quantity} of layer "
        f"{index % 4 + 1} is {predicted:.4g}, given the embedding.",
        latex_rule=_LATEX_RULE[rules[0]],
        latex_prediction=r"E\left[W^{2}\right] = \frac{2^{I_{\mathrm{ReLU}}}}{d_{j} r}"
        if quantity == "weights"
        else r"p = p' \frac{d_{i}}{d_{j}} 2^{- I_{\mathrm{HBias}}}",
        predicted=predicted,
        measured=measured,
        interval=interval,
        df=df,
        alpha=1e-6 / 1200,
        beta=1e-3,
        tolerance=0.02,
        verdict=verdict,
        law="exact" if tags["distribution"] == "normal" else "conservative",
        reason={
            "REFUTED": "1 left the confidence sequence after 3,200 df: measured / predicted is 2.0",
            "INCONCLUSIVE": "the cap of 1,500 df came first: raise the budget",
        }.get(verdict),
        departure=_DEPARTURE if quantity == "backward" and tags["bias"] else None,
        assumptions=(
            "layers have independent output layers and embeddings",
            "the activation before the layer is not zero",
            f"the {quantity} is read before the activation",
        ),
        witnesses=Witnesses(
            formula=None if quantity == "dL/dh" else predicted,
            oracle=predicted,
            measurement=measured,
        ),
        parts=parts,
        trail=trail,
        spec={
            "kind": tags["kind"],
            "widths": widths,
            "relu": tags["relu"],
            "d_k": 32,
            "embedding": {"distribution": "uniform", "second_moment": 1.0},
        },
        seed_path=("1", name, "a3f5c7"),
        seconds=0.12,
    )


def make_run(checks: list[Check], **changes: Any) -> Run:
    """A run of these checks, its counts and verdict following from them."""
    counts = count(checks)
    fields: dict[str, Any] = {
        "hyperverify_version": "0.1.0",
        "verdict": overall(counts),
        "root_seed": 1,
        "alpha": 1e-6,
        "alpha_per_check": 1e-6 / 1200,
        "beta": 1e-3,
        "p_inconclusive": 1e-6,
        "tolerance": 0.02,
        "suite": "all",
        "rules": (),
        "device": "cpu",
        "dtype": "float64",
        "environment": Environment(
            python="3.11.2",
            torch="2.13.0+cpu",
            numpy="2.4.6",
            scipy="1.17.1",
            platform="Linux-6.1-x86_64",
            device_name="x86_64",
            threads=1,
            workers=2,
            git_commit="0123456789abcdef0123456789abcdef01234567",
            git_dirty=False,
            constraints_sha256="ab" * 32,
            variables={"OMP_NUM_THREADS": "1"},
        ),
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 187.3,
        "counts": counts,
        "pooled": Pooled(
            S=2.1e8,
            df=210_004_312,
            theta=0.99993,
            interval=(0.9991, 1.0008),
            note="exact laws only",
        ),
        "checks": checks,
    }
    return Run(**{**fields, **changes})


def synthetic_checks(limit: int = 1200) -> list[Check]:
    """Checks over every setting: kind x ReLU x bias x output x distribution x method x quantity."""
    rng = np.random.default_rng(2020)
    settings = itertools.product(
        ("linear", "conv"),
        ("none", "all", "mixed"),
        (False, True),
        ("own", "shared", "chunked"),
        ("normal", "uniform"),
    )
    made: list[Check] = []
    for kind, relu, bias, output, distribution in settings:
        tags = {
            "kind": kind,
            "relu": relu,
            "bias": bias,
            "output": output,
            "distribution": distribution,
            "group": "grid",
        }
        for method in _METHODS:
            if output != "own" and not method.startswith("hyperfan"):
                continue
            quantities = (*_QUANTITIES, "depth") if output == "own" else _QUANTITIES
            for quantity in quantities:
                made.append(
                    synthetic_check(
                        rng, index=len(made), method=method, tags=tags, quantity=quantity
                    )
                )
    return made[:limit]


def synthetic_run(limit: int = 1200, *, verified_only: bool = False) -> Run:
    """About ``limit`` checks with all three verdicts, or only the VERIFIED ones."""
    checks = synthetic_checks(limit)
    if verified_only:
        checks = [check for check in checks if check.verdict == "VERIFIED"]
    return make_run(checks)


def hostile_run() -> Run:
    """Three checks (one of each verdict, one a depth check) with HOSTILE in every string field."""
    chosen: dict[str, Check] = {}
    for check in synthetic_checks():
        chosen.setdefault("depth" if check.quantity == "depth" else check.verdict, check)
    poisoned = [
        check.model_copy(
            update={
                "id": f"{number} {HOSTILE}",
                "rules": (HOSTILE, f"{number}{HOSTILE}"),
                "method": HOSTILE,
                "quantity": "depth" if check.quantity == "depth" else HOSTILE,
                "architecture": HOSTILE,
                "tags": {**dict.fromkeys(check.tags, HOSTILE), HOSTILE: HOSTILE},
                "statement": HOSTILE,
                "latex_rule": HOSTILE,
                "latex_prediction": HOSTILE,
                "law": HOSTILE,
                "reason": HOSTILE,
                "departure": HOSTILE,
                "assumptions": (HOSTILE, HOSTILE + "2"),
                "spec": {HOSTILE: [HOSTILE, {"deeper": HOSTILE}]},
                "seed_path": (HOSTILE, 7),
            }
        )
        for number, check in enumerate(chosen.values())
    ]
    environment = Environment(
        python=HOSTILE,
        torch=HOSTILE,
        numpy=HOSTILE,
        scipy=HOSTILE,
        platform=HOSTILE,
        device_name=HOSTILE,
        git_commit=HOSTILE,
        constraints_sha256=HOSTILE,
        threads=1,
        workers=1,
        variables={HOSTILE: HOSTILE},
    )
    pooled = Pooled(S=1.0, df=1, theta=1.0, interval=(0.5, 2.0), note=HOSTILE)
    return make_run(
        poisoned,
        hyperverify_version=HOSTILE,
        suite=HOSTILE,
        rules=(HOSTILE,),
        device=HOSTILE,
        dtype=HOSTILE,
        environment=environment,
        pooled=pooled,
    )
