"""`calibrate_`: multiply the rows that make each wrong layer, so that it has the scale that was asked.

Which factor, and on which matrix, a check's result says (`LayerResult.fix`). Which rows of which
parameter those are is found in the model itself, by tracing one call and following the entries of the
generated weights back to the memory that they were made from. Afterwards the call is traced again: the
weights must come out with just that factor, all others unchanged; if not, everything is put back.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from hyperverify.check_results import CheckResult, LayerResult
from hyperverify.diagnosis import NO_FACTOR
from hyperverify.errors import BadArgument, HyperverifyError
from hyperverify.tracing.labels import Labels, distinct, firsts, split
from hyperverify.tracing.layers import TracedLayer
from hyperverify.tracing.operations import contraction_of
from hyperverify.tracing.replicates import Analysis, Replicate, Replicates
from hyperverify.tracing.sources import Mixture, Stage
from hyperverify.tracing.values import Node, Trace

__all__ = ["CannotCalibrate", "calibrate_"]

Model = TypeVar("Model", bound=Callable[..., Any])

_EXACT = {torch.float64: 1e-6, torch.float32: 1e-4}
_COARSE = 0.03
"""Relative error of a squared factor after rounding: in half precision."""


class CannotCalibrate(HyperverifyError):  # noqa: N818  named for what it reports
    """No factor on rows does it; the message says where and why. The model is as it was."""


@dataclass(frozen=True)
class _Order:
    """Multiply what makes the ``what`` of layer ``layer``, ``depth`` matrices down, by ``scale``."""

    layer: int
    what: str
    scale: float
    depth: int


def calibrate_(
    model: Model,
    result: CheckResult,
    *,
    input: int | tuple[int, ...] | None = None,  # noqa: A002  as in `check`
    inputs: Callable[..., Any] | None = None,
) -> Model:
    """Rescale a model in place so that its generated layers have the scale that a check asked for.

    ``result = hyperverify.check(factory, input=48, expect="hyperfan-in")`` says by how much; then
    ``calibrate_(factory(), result)``. Layers that were right stay as they are. A factor changes
    variances alone: a trunk that is wrong, or an embedding that was not told, is made up for, not
    mended.

    Args:
        model: what the factory of that check returns.
        result: of `hyperverify.check`.
        input: shape of one sample; by default the check's.
        inputs: a function that returns the model's arguments, where the check had one.

    Returns:
        The model.

    Raises:
        CannotCalibrate: a layer cannot be mended by a factor (the rows serve another layer that needs
            another one, the weights are not one output layer's, the biases are all zero...), or the
            model is another than the result's. The model is then as it was.
        BadArgument: an argument outside its range.
    """
    if not isinstance(result, CheckResult):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise BadArgument("result", result, "what hyperverify.check returned")
    if not callable(model):
        raise BadArgument("model", model, "a module or another callable")
    orders = _orders(result)
    if not orders:
        return model
    shape = _shape(input, inputs, result)
    with _as_it_was(model):
        before = _look(model, shape, inputs)
        _compare(before.analysis.layers, result.layers)
        changes = _Changes(before)
        for order in orders:
            changes.add(order)
        _check_factors(changes, before, orders, lambda: _look(model, shape, inputs))
    return model


def _orders(result: CheckResult) -> list[_Order]:
    orders: list[_Order] = []
    for t, layer in enumerate(result.layers):
        last = layer.diagnosis[-1] if layer.diagnosis else ""
        if last.startswith(NO_FACTOR):
            raise CannotCalibrate(f"{layer.name}: {last.removeprefix(NO_FACTOR)}")
        for what, prefix in (("weights", ""), ("biases", "bias_")):
            scale = (layer.fix or {}).get(f"{prefix}scale")
            if scale is not None:
                orders.append(
                    _Order(t, what, float(scale), int((layer.fix or {})[f"{prefix}depth"]))
                )
    return orders


def _shape(given: object, inputs: object, result: CheckResult) -> tuple[int, ...]:
    if inputs is not None:
        return ()
    told = result.settings.get("input") if given is None else given
    sizes = (told,) if isinstance(told, int) else told
    if isinstance(sizes, (tuple, list)):
        every = cast("Sequence[object]", sizes)
        shape = tuple(n for n in every if isinstance(n, int) and n > 0)
        if shape and len(shape) == len(every):
            return shape
    raise BadArgument("input", given, "the shape of one sample, or inputs= as in the check")


def _look(model: Any, shape: tuple[int, ...], inputs: Callable[..., Any] | None) -> Replicate:
    return Replicates(lambda: model, shape, inputs, 0, None).first


@contextmanager
def _as_it_was(model: Any) -> Generator[None]:
    """Calls leave nothing behind: buffers (batch norm's running means) are put back."""
    buffers = list(model.buffers()) if isinstance(model, nn.Module) else []
    kept = [buffer.detach().clone() for buffer in buffers]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, kept, strict=True):
                if not torch.equal(buffer, value):
                    buffer.copy_(value)


def _compare(found: Sequence[TracedLayer], expected: Sequence[LayerResult]) -> None:
    if len(found) != len(expected):
        raise CannotCalibrate(
            f"the model has {len(found)} generated layers, the result {len(expected)}"
        )
    for layer, asked in zip(found, expected, strict=True):
        mine = (layer.kind, layer.weight.size, layer.bias == "generated")
        if mine != (asked.kind, tuple(asked.weight_shape), asked.bias == "generated"):
            raise CannotCalibrate(
                f"{asked.name} is {asked.kind} {tuple(asked.weight_shape)} in the result and "
                f"{layer.kind} {layer.weight.size} in the model"
            )


# ------------------------------------------------------------------------------------- which memory


class _Changes:
    """Factors by place of memory, collected before anything is written."""

    def __init__(self, first: Replicate) -> None:
        self._trace = first.trace
        self._analysis = first.analysis
        self._labels = Labels()
        self._factors: dict[int, Tensor] = {}
        self._old: dict[int, Tensor] = {}

    def add(self, order: _Order) -> None:
        """The rows behind one order."""
        where = f"layer {order.layer + 1}"
        source = _source(self._analysis, order)
        for stage in _stages(source, order.depth, where):
            for index, places in self._places(stage, where):
                node = self._trace.nodes[index]
                factors = self._factors.setdefault(
                    index, torch.full((node.numel,), math.nan, dtype=torch.float64)
                )
                known = factors[places]
                clash = ~known.isnan() & ((known - order.scale).abs() > 0.02 * abs(order.scale))
                if bool(clash.any()):
                    name = self._trace.names.get(index, "the output layer")
                    raise CannotCalibrate(
                        f"{where}: its rows of {name} serve another layer, which needs another factor "
                        f"({float(known[clash][0]):.3g}, not {order.scale:.3g})"
                    )
                factors[places] = torch.where(known.isnan(), order.scale, known)

    def _places(self, stage: Stage, where: str) -> list[tuple[int, Tensor]]:
        """The memory of the rows that make a stage's entries, by leaf."""
        product = contraction_of(self._trace.nodes[stage.node])
        assert product is not None
        entries = stage.entries if stage.before is None else stage.before
        _, places = split(entries.labels(self._labels))
        inside = torch.full((product.out.node.numel,), -1, dtype=torch.int64)
        inside[product.out.addresses().reshape(-1)] = torch.arange(product.out.numel)
        index = inside[places]
        _, m, n = product.out.size
        left = stage.mixer.key == product.left.key
        row = index // n % m if left else index % n
        numbers = index // (m * n) * stage.mixer.size[1] + row
        rows = numbers[firsts(*distinct(numbers))]
        labels = self._labels.of(stage.mixer).reshape(-1, stage.width)[rows].reshape(-1)
        if not bool((labels > 0).all()):
            raise CannotCalibrate(f"{where}: some entries of its output layer are constants")
        nodes, inner = split(labels)
        found: list[tuple[int, Tensor]] = []
        for number in sorted(set(cast("list[int]", cast("Any", nodes).tolist()))):
            _writable(self._trace.nodes[number], where)
            found.append((number, inner[nodes == number]))
        return found

    def write(self) -> None:
        """Multiply, in the model's own memory."""
        for index, factors in self._factors.items():
            values = _memory(self._trace, index)
            self._old[index] = values.clone()
            scale = torch.nan_to_num(factors, nan=1.0).to(values.device)
            values.copy_((values.to(torch.float64) * scale).to(values.dtype))

    def undo(self) -> None:
        """Put everything back."""
        for index, old in self._old.items():
            _memory(self._trace, index).copy_(old)


def _source(analysis: Analysis, order: _Order) -> Mixture:
    source = analysis.weights[order.layer]
    if order.what == "biases":
        source = analysis.biases[order.layer] or source
    return source


def _stages(source: Mixture, depth: int, where: str) -> list[Stage]:
    """All matrices so far down."""
    found: list[Stage] = []
    for part in source.parts:
        if not isinstance(part, Stage):
            raise CannotCalibrate(f"{where}: not all of it is made by an output layer")
        found += [part] if depth == 0 else _stages(part.child, depth - 1, where)
    return found


def _writable(node: Node, where: str) -> None:
    if not node.leaf or node.op != "leaf":
        what = "drawn or computed in the call" if node.op != "input" else "an input of the call"
        raise CannotCalibrate(f"{where}: its output layer is {what} ({node.op}), not a parameter")
    if node.storage.data_ptr() != node.address:
        raise CannotCalibrate(f"{where}: the call itself writes to its output layer")


def _memory(trace: Trace, index: int) -> Tensor:
    """A leaf's own memory, flat."""
    node = trace.nodes[index]
    ref = next(r for other in trace.nodes for r in other.refs if r.node is node)
    return ref.view((node.numel,), (1,), 0).value()


# -------------------------------------------------------------------------------- what came out of it


def _check_factors(
    changes: _Changes,
    before: Replicate,
    orders: Sequence[_Order],
    look: Callable[[], Replicate],
) -> None:
    """Write, look again, and put everything back unless each layer has its own factor."""
    asked = {(order.layer, order.what): order.scale for order in orders}
    sizes = _sizes(before)
    changes.write()
    try:
        after = _sizes(look())
        for key, (size, dtype) in sizes.items():
            factor, within = asked.get(key, 1.0), _EXACT.get(dtype, _COARSE)
            due = factor**2 * size
            if not abs(after[key][0] - due) <= max(0.05 * (factor != 1.0), within) * due:
                t, what = key
                seen = math.sqrt(after[key][0] / size) if size > 0.0 else math.inf
                raise CannotCalibrate(
                    f"layer {t + 1}: its {what} would come out {seen:.3g} times as large instead of "
                    f"{factor:.3g}: they share what makes them with another layer"
                )
    except BaseException:
        changes.undo()
        raise


def _sizes(seen: Replicate) -> dict[tuple[int, str], tuple[float, torch.dtype]]:
    """The sum of squares of every layer's weights and biases."""
    found: dict[tuple[int, str], tuple[float, torch.dtype]] = {}
    for t, layer in enumerate(seen.analysis.layers):
        for what, ref in (("weights", layer.weight), ("biases", layer.b)):
            if ref is not None:
                value = ref.value().detach()
                found[t, what] = float(value.to(torch.float64).square().sum()), value.dtype
    return found
