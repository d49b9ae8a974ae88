"""Every prediction of the moments oracle made wrong, and some that the catalogue prints."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from functools import partial
from typing import Any

import numpy as np
from planted import (
    MEASUREMENT,
    WITNESSES,
    Defect,
    Patch,
    chunked,
    conv,
    deep,
    dense,
    m4,
)

from hyperverify import moments
from hyperverify.catalogue import backward, hypergradient
from hyperverify.specs import (
    HypernetSpec,
    LayerSpec,
    TrunkLayerSpec,
)


def _instead(name: str, wrong: Callable[..., Any]) -> list[Patch]:
    """A function of ``moments`` with another in its place, which gets the right one first."""
    return [(moments, name, partial(wrong, getattr(moments, name)))]


def _taps(*, ignoring: str = "", column_major: bool = False) -> Callable[..., Any]:
    """:func:`moments.taps` written with a slip."""

    def wrong(right: Any, layer: LayerSpec, size: tuple[int, ...]) -> Any:
        out, n = layer.output_size(size), len(size)
        order = "F" if column_major else "C"
        at_out = [np.arange(math.prod(out)) for _ in out]
        at_out = list(np.unravel_index(at_out[0], out, order=order)) if n else []
        taps = math.prod(layer.kernel)
        at_tap = list(np.unravel_index(np.arange(taps), layer.kernel, order=order)) if n else []
        table = np.zeros((math.prod(out), taps), dtype=np.int64)
        outside = np.zeros(table.shape, dtype=bool)
        for a, extent in enumerate(size):
            stride = 1 if ignoring == "stride" else layer.stride[a]
            dilation = 1 if ignoring == "dilation" else layer.dilation[a]
            padding = 0 if ignoring == "padding" else layer.padding[a]
            at = at_out[a][:, None] * stride + at_tap[a][None] * dilation - padding
            if layer.padding_mode == "circular" and ignoring != "circular":
                at = at % extent
            outside |= (at < 0) | (at >= extent)
            table = table * extent + at
        table[outside] = -1
        return table

    return wrong


def _oracle_on(
    function: str,
    spec: HypernetSpec,
    wrongs: dict[str, Callable[..., Any]],
    refuted: tuple[str, ...],
    verified: tuple[str, ...] = (),
    by: str = MEASUREMENT,
    still: tuple[str, ...] = (),
) -> list[Defect]:
    return [
        Defect(
            function, name, spec, partial(_instead, function, wrong), refuted, verified, by, still
        )
        for name, wrong in wrongs.items()
    ]


def _field(name: str, factor: int = 2) -> Callable[..., Any]:
    def wrong(right: Any, spec: HypernetSpec, t: int) -> Any:
        m = right(spec, t)
        return replace(m, **{name: getattr(m, name) * factor})

    return wrong


def _counting() -> list[Defect]:
    found: list[Defect] = []
    weights = ("weights/L1", "forward/L1/inside")
    found += _oracle_on(
        "weights_per_output", conv("hyperfan-in"),
        {
            "out for in": lambda f, layer: layer.n_weights // layer.in_channels,
            "groups ignored": lambda f, layer: layer.in_channels * math.prod(layer.kernel),
            "receptive field dropped": lambda f, layer: layer.weight_shape[1],
        },
        weights[:1], ("biases/L1", "embedding/L1"),
    )  # fmt: skip
    found += _oracle_on(
        "weights_per_input", conv("hyperfan-out"),
        {
            "in for out": lambda f, layer: layer.n_weights // layer.out_channels,
            "groups ignored": lambda f, layer: layer.out_channels * math.prod(layer.kernel),
            "receptive field dropped": lambda f, layer: layer.out_channels // layer.groups,
        },
        weights[:1], ("embedding/L1",),
    )  # fmt: skip
    found += _oracle_on(
        "halving", dense("hyperfan-in"),
        {"ReLU forgotten": lambda f, layer: 1, "the square of 2": lambda f, layer: f(layer) ** 2},
        ("weights/L1", "biases/L1"), ("embedding/L1", "trunk/h1"),
    )  # fmt: skip
    always = {"2 without ReLU": lambda f, layer: 2}
    found += _oracle_on("halving", dense("hyperfan-in", relu=False), always, ("weights/L1",))
    padded = LayerSpec(2, 4, (3,), padding=(1,), bias=True)
    strided = LayerSpec(2, 4, (2,), stride=(2,), bias=True)
    dilated = LayerSpec(2, 4, (3,), dilation=(2,), bias=True)
    circular = LayerSpec(2, 4, (3,), padding=(1,), padding_mode="circular", bias=True)
    flat = LayerSpec(2, 3, (2, 3), padding=(1, 0), bias=True)
    apart = ("weights/L1", "biases/L1")
    # the sites are named by the wrong table: what is a border, and where there is none, moves
    for what, layer, owners in (
        ("padding", padded, ("forward/L1/border", "dL-dW/L1/border", "backward/L1/border")),
        ("stride", strided, ("forward/L1", "dL-dW/L1", "backward/L1/inside")),
        ("dilation", dilated, ("forward/L1", "dL-dW/L1", "backward/L1/inside")),
    ):
        spec = conv(layer=layer, size=6)
        wrong = {f"{what} ignored": _taps(ignoring=what)}
        found += _oracle_on("taps", spec, wrong, owners, apart)
    wrong = {"circular read as zeros": _taps(ignoring="circular")}
    owners = ("forward/L1/border", "backward/L1/border", "dL-dW/L1/border")
    found += _oracle_on("taps", conv(layer=circular, size=4), wrong, owners, apart)
    wrong = {"column-major": _taps(column_major=True)}
    found += _oracle_on("taps", conv(layer=flat, size=4), wrong, ("forward/L1/inside",), apart)
    return found


def _operators() -> list[Defect]:
    found: list[Defect] = []
    grouped = conv("hyperfan-in")
    linear = conv(layer=LayerSpec(4, 6, (3,), (2,), (1,), groups=2, bias=True), size=7)
    apart = ("weights/L1", "biases/L1")
    found += _oracle_on(
        "forward_at", grouped,
        {
            "in-channels averaged": lambda f, layer, size, at, v, u, x2: f(
                layer, size, at, v, u, x2
            )
            / 2,
            "halved": lambda f, layer, size, at, v, u, x2: f(layer, size, at, v / 2, u, x2),
            "the middle position everywhere": lambda f, layer, size, at, v, u, x2: f(
                layer, size, 2, v, u, x2
            ),
            "standard deviations": lambda f, layer, size, at, v, u, x2: f(
                layer, size, at, v**0.5, u, x2
            ),
        },
        ("forward/L1/border",), apart,
    )  # fmt: skip

    def whole(f: Any, layer: LayerSpec, channels: Any) -> Any:
        summed = channels.sum(-2)[..., None, :]
        return summed + 0 * f(layer, channels)

    found += _oracle_on(
        "_by_group", grouped, {"groups ignored": whole},
        ("forward/L1/inside", "backward/L1"), apart,
    )  # fmt: skip

    def not_transposed(f: Any, layer: Any, size: Any, at: int, v: Any, d2: Any) -> Any:
        table = moments.taps(layer, size)
        read = table[min(at, len(table) - 1)]
        read = read[(read >= 0) & (read < len(table))]
        return v * moments._by_group(layer, d2)[..., read].sum(-1)

    found += _oracle_on(
        "backward_at", linear,
        {
            "not transposed": not_transposed,
            "out-channels averaged": lambda f, layer, size, at, v, d2: f(layer, size, at, v, d2)
            / 3,
            "halved": lambda f, layer, size, at, v, d2: f(layer, size, at, v / 2, d2),
        },
        ("backward/L1/inside",), (*apart, "forward/L1/inside"),
    )  # fmt: skip
    found += _oracle_on(
        "weight_gradient_at", linear,
        {
            "averaged over positions": lambda f, layer, size, tap, d2, x2, *at: f(
                layer, size, tap, d2, x2, *at
            )
            / d2.shape[-1],
            "inputs left out": lambda f, layer, size, tap, d2, x2, *at: f(
                layer, size, tap, d2, 0 * x2 + 3, *at
            ),
        },
        ("dL-dW/L1/border",), (*apart, "forward/L1/inside"),
    )  # fmt: skip
    turned = {
        "kernel turned round": lambda f, layer, size, tap, d2, x2, *at: f(
            layer, size, 1 - tap, d2, x2, *at
        )
    }
    even = conv(layer=LayerSpec(2, 4, (2,), stride=(2,), bias=True), size=6)
    found += _oracle_on("weight_gradient_at", even, turned, ("dL-dW/L1",), apart)
    found += _oracle_on(
        "bias_gradient", linear,
        {
            "averaged over positions": lambda f, d2: f(d2) / d2.shape[-1],
            "the first position alone": lambda f, d2: d2[..., 0],
        },
        ("dL-dG/L1",), (*apart, "dL-dg/L1"),
    )  # fmt: skip
    found += _oracle_on(
        "feature_gradient", dense(),
        {
            "Var(H) dropped": lambda f, var, gradient2: gradient2,
            "standard deviation of H": lambda f, var, gradient2: f(var**0.5, gradient2),
            "halved": lambda f, var, gradient2: f(var, gradient2) / 2,
        },
        ("dL-dh/L1", "dL-dg/L1"), (*apart, "dL-dW/L1"),
    )  # fmt: skip
    found += _oracle_on(
        "output_layer_gradient", dense(),
        {
            "E[h^2] dropped": lambda f, gradient2, feature2: gradient2 + 0 * feature2,
            "halved": lambda f, gradient2, feature2: f(gradient2, feature2) / 2,
        },
        ("dL-dH/L1", "dL-dG/L1"), (*apart, "dL-dW/L1"),
    )  # fmt: skip
    return found


def _hypernet() -> list[Defect]:
    found: list[Defect] = []
    moment: dict[str, Callable[..., Any]] = {
        "Var(e) left at 1": lambda f, spec, t: Fraction(1),
        "standard deviation": lambda f, spec, t: Fraction(math.sqrt(f(spec, t))),
    }
    found += _oracle_on("embedding_moment", dense(), moment, ("weights/L1",), ("biases/L1",))
    found += _oracle_on(
        "embedding_moment", dense("fan-in", trunk=()), moment, ("embedding/L1",), ("biases/L1",)
    )
    found += _oracle_on(
        "embedding_moment", m4(),
        {
            "the printed d_i": lambda f, spec, t: Fraction(1, 6),
            "receptive field dropped": lambda f, spec, t: Fraction(1, 3),
            "the entry, not its square": lambda f, spec, t: Fraction(1, 3) ** 2 * 3,
        },
        ("embedding/L1",), ("dL-dW/L1",),
    )  # fmt: skip
    fires = dense(trunk=(TrunkLayerSpec(3, relu=True),))
    trunk: dict[str, Callable[..., Any]] = {
        "fan-out": lambda f, first, trunk: [
            v * n / layer.width
            for v, n, layer in zip(
                f(first, trunk), [first, *(w.width for w in trunk)], trunk, strict=False
            )
        ],
        "standard deviations": lambda f, first, trunk: [
            Fraction(math.sqrt(v)) for v in f(first, trunk)
        ],
    }
    relu = {"ReLU forgotten": lambda f, first, trunk: [v / 2 for v in f(first, trunk)]}
    found += _oracle_on(
        "trunk_variances", dense(), trunk, ("trunk/h1",), ("embedding/L1", "biases/L1")
    )
    found += _oracle_on(
        "trunk_variances", fires, relu, ("trunk/h1",), ("embedding/L1", "biases/L1")
    )
    through = {"halved once too often": lambda f, second, first, trunk: f(second, first, trunk) / 2}
    found += _oracle_on(
        "_through_trunk", fires, through, ("weights/L1", "biases/L1"), ("embedding/L1",)
    )

    def in_and_out(f: Any, method: str, layer: LayerSpec, scale: Any, bias_scale: Any) -> Any:
        other = "hyperfan-out" if method == "hyperfan-in" else "hyperfan-in"
        return f(other, layer, scale, bias_scale)

    found += _oracle_on(
        "_solve_hyperfan", dense("hyperfan-in", wide=True),
        {
            "in and out swapped": in_and_out,
            "the bias takes no share": lambda f, m, layer, a, b: (2 * f(m, layer, a, b)[0],
                                                                  f(m, layer, a, b)[1]),
            "the bias takes all": lambda f, m, layer, a, b: (f(m, layer, a, b)[0] / 2,
                                                             f(m, layer, a, b)[1]),
            "d_k dropped": lambda f, m, layer, a, b: f(m, layer, a / 3, b),
        },
        ("weights/L1",), ("embedding/L1", "trunk/h1"),
    )  # fmt: skip
    found += _oracle_on(
        "_solve_hyperfan", dense("hyperfan-in", wide=True),
        {
            "bias share wrong": lambda f, m, layer, a, b: (f(m, layer, a, b)[0],
                                                           2 * f(m, layer, a, b)[1]),
            "d_l dropped": lambda f, m, layer, a, b: f(m, layer, a, b / 5),
        },
        ("biases/L1",), ("embedding/L1", "weights/L1"),
    )  # fmt: skip
    found += _oracle_on(
        "_solve_hyperfan", dense("hyperfan-out"),
        {
            "|.| for max(., 0)": lambda f, m, layer, a, b: (f(m, layer, a, b)[0], Fraction(1, 2)),
        },
        ("biases/L1",), ("embedding/L1", "weights/L1"),
    )  # fmt: skip
    inverted: dict[str, Callable[..., Any]] = {
        "inverted": lambda f, kind, a, b: 1 / f(kind, a, b) if a and b else f(kind, a, b),
        "arithmetic": lambda f, kind, a, b: (a + b) / 2,
    }
    found += _oracle_on("_mean", dense("hyperfan-harmonic", bias=False), inverted, ("weights/L1",))
    found += _oracle_on(
        "_sqrt", dense("hyperfan-geometric", bias=False, widths=(8, 4)),
        {"forgotten": lambda f, value: value, "halved": lambda f, value: value / 2},
        ("weights/L1",), ("embedding/L1",),
    )  # fmt: skip
    for method in ("fan-in", "fan-out", "torch-default", "M3", "harmonic"):
        swapped: dict[str, Callable[..., Any]] = {
            "fans swapped": lambda f, m, s, columns, rows: f(m, s, rows, columns),
            "ReLU forgotten": lambda f, m, s, columns, rows: f(m, 1, columns, rows),
            "sqrt 3 dropped": lambda f, m, s, columns, rows: f(m, s, columns, rows) / 3,
        }
        if method == "torch-default":
            del swapped["ReLU forgotten"]
        elif method == "harmonic":
            del swapped["fans swapped"]
        spec = dense(method, bias=False, trunk=())
        found += _oracle_on("_classical", spec, swapped, ("weights/L1",), ("dL-dW/L1",))
    fields = {
        "var_output": ("dL-dh/L1",),
        "var_bias_output": ("dL-dg/L1",),
        "feature": ("weights/L1", "forward/L1", "backward/L1"),
        "bias_feature": ("biases/L1",),
        "weight": ("weights/L1", "forward/L1", "backward/L1"),
        "bias": ("biases/L1",),
    }
    for name, owners in fields.items():
        wrong = {f"{name} doubled": _field(name)}
        found += _oracle_on("layer_moments", dense(), wrong, owners, ("dL-dW/L1", "embedding/L1/g"))
    return found


def _chunks() -> list[Defect]:
    found: list[Defect] = []
    spec = chunked("hyperfan-in")
    for name, owners, apart in (
        ("var_chunk_input", ("trunk/L1",), ("weights/L1",)),
        ("var_output", ("weights/L1", "forward/L1"), ("trunk/L1",)),
    ):
        wrong = {f"{name} doubled": _field(name)}
        found += _oracle_on("layer_moments", spec, wrong, owners, apart)
    for name, owners in (("feature", ("trunk/L1",)), ("weight", ("weights/L1", "forward/L1"))):
        wrong = {f"{name} doubled": _field(name)}
        found += _oracle_on("layer_moments", spec, wrong, owners, (), WITNESSES)

    def other_fan(f: Any, spec: HypernetSpec, layer: LayerSpec) -> Any:
        methods = ["hyperfan-in", "hyperfan-out"]
        methods.remove(spec.method)
        return f(replace(spec, method=methods[0]), layer)

    found += _oracle_on(
        "_chunked_moments", spec, {"in and out swapped": other_fan}, ("trunk/L1",), ("embedding/L1",),
        still=("weights/L1", "forward/L1"),
    )  # fmt: skip

    def exchanged(f: Any, out_channels: int, in_channels: int, size: int) -> Any:
        i, j = np.indices((out_channels, in_channels))
        return np.stack([i % size, j * (out_channels // size) + i // size])

    def floor_for_mod(f: Any, out_channels: int, in_channels: int, size: int) -> Any:
        i, j = np.indices((out_channels, in_channels))
        tiles = out_channels // size
        return np.stack([i // tiles, j + (i % tiles) * in_channels])

    found += _oracle_on(
        "chunk_table", spec,
        {"tiles counted along the inputs first": exchanged, "floor for mod": floor_for_mod},
        ("weights/L1",), ("trunk/L1", "forward/L1"),
    )  # fmt: skip
    return found


def _predictions() -> list[Defect]:
    """Predictions that are printed but that nothing measured is divided by."""
    found: list[Defect] = []
    plain = dense(bias=False)
    gain: dict[str, Callable[..., Any]] = {
        "ReLU forgotten": lambda f, layer, m: 2 * f(layer, m),
        "fans swapped": lambda f, layer, m: f(layer, m) * layer.out_channels / layer.in_channels,
    }
    found += _oracle_on("forward_gain", plain, gain, ("forward/L1",), ("weights/L1",), WITNESSES)
    found += _oracle_on("backward_gain", plain, gain, ("backward/L1",), ("weights/L1",), WITNESSES)
    found += _oracle_on(
        "forward_offset", dense(), {"ReLU forgotten": lambda f, layer, m: m.bias}, ("forward/L1",),
        ("weights/L1", "biases/L1"), WITNESSES,
    )  # fmt: skip
    chain = deep("hyperfan-out")
    maps: dict[str, Callable[..., Any]] = {
        "doubled": lambda f, spec, *q: [2 * m for m in f(spec, *q)],
        "the last layer left out": lambda f, spec, *q: f(spec, *q)[:-1],
    }
    found += _oracle_on("forward_maps", chain, maps, ("depth/forward",), ("weights/L1",), WITNESSES)
    chain = deep("hyperfan-in")
    maps = {
        "doubled": lambda f, spec, *p: [2 * m for m in f(spec, *p)],
        "the first layer left out": lambda f, spec, *p: f(spec, *p)[1:],
    }
    found += _oracle_on(
        "backward_maps", chain, maps, ("depth/backward",), ("weights/L1",), WITNESSES
    )

    def no_offset(f: Any, layer: Any, size: Any, at: int, v: Any, u: Any, x2: Any) -> Any:
        return f(layer, size, at, v, 0 * u, x2)

    biased = deep("hyperfan-in", bias=True)
    found += _oracle_on(
        "forward_at", biased, {"u left out": no_offset}, ("depth/forward",),
        ("weights/L1", "biases/L1"), WITNESSES,
    )  # fmt: skip
    return found


ORACLE_DEFECTS: tuple[Defect, ...] = (
    *_counting(),
    *_operators(),
    *_hypernet(),
    *_chunks(),
    *_predictions(),
)


# --- printed predictions that the catalogue puts together -------------------------------------------


def _printed() -> list[Defect]:
    found: list[Defect] = []
    whole, at_tap = hypergradient.weight_gradient_sum, backward.gradient_at
    slips: list[tuple[str, Any, str, Any]] = [
        ("ReLU forgotten", hypergradient, "weight_gradient_sum", lambda *a: 2 * whole(*a)),
        ("ReLU forgotten", backward, "gradient_at", lambda *a: 2 * at_tap(*a)),
    ]
    for spec, tap in ((dense(), ""), (conv(), "")):
        for name, room, function, wrong in slips:
            owners = {
                "weight_gradient_sum": ("dL-dh/L1",),
                "gradient_at": (f"dL-dW/L1{tap}", f"dL-dH/L1{tap}"),
            }[function]
            patches: list[Patch] = [(room, function, wrong)]
            what = f"{room.__name__.rpartition('.')[2]}.{function}"
            found.append(
                Defect(what, f"{name}, {spec.kind}", spec, partial(list, patches), owners,
                       ("weights/L1", "biases/L1"), WITNESSES)
            )  # fmt: skip
    return found


PRINTED_DEFECTS: tuple[Defect, ...] = tuple(_printed())
