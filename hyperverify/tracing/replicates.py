"""Replicates: fresh models from a factory, each traced once, their structure compared with the first.

One replicate is one fresh call of the factory under a seed of its own, then one call of the model. A
program (the sequence of operations with their shapes and operands) that is the first one's again has
its values in the same places, so that what was found once is only read off; any other program is
analysed anew, and a structure that differs is flagged.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from hyperverify.errors import HyperverifyError
from hyperverify.isolation import Captured, isolated
from hyperverify.sampling import mixed, seed_of
from hyperverify.tracing.alarm import Alarm, OutOfTime
from hyperverify.tracing.labels import Labels
from hyperverify.tracing.layers import Findings, TracedLayer, find_layers
from hyperverify.tracing.second_looks import loops_over_samples, made_on_the_way, remembered
from hyperverify.tracing.sources import Mixture, source_of
from hyperverify.tracing.tracer import trace
from hyperverify.tracing.values import Trace, is_list, tensors_in

BATCH, OTHER_BATCH = 3, 2
"""Samples of a replicate's batch, and of the second look that tells samples from groups."""


MOST_PROGRAMS = 16
"""Analyses that are kept for targets that do not run the same operations on every call."""


MOST_OTHERS = 16
"""Further replicates that are asked whether an activation is a ReLU."""


def replicate_seed(root_seed: int, replicate: int, purpose: str = "factory") -> int:
    """A 32-bit seed: torch's CPU generator reads no more; counted and mixed, so that none repeats."""
    return mixed(seed_of(root_seed, purpose) + replicate)


class BadTarget(HyperverifyError):  # noqa: N818  named for what it reports
    """A target that does not build or run, or has no generated layer; ``__cause__`` is its own error."""


@dataclass(frozen=True)
class Analysis:
    """What one program is: its layers, the sources of their weights and biases, its flags.

    Attributes:
        findings: layers and flags.
        weights: behind each layer's weights.
        biases: behind each layer's bias; None where it is not generated.
    """

    findings: Findings
    weights: tuple[Mixture, ...]
    biases: tuple[Mixture | None, ...]

    @property
    def structure(self) -> tuple[object, ...]:
        return tuple(layer.structure for layer in self.findings.layers)

    @property
    def layers(self) -> tuple[TracedLayer, ...]:
        return self.findings.layers


@dataclass(frozen=True)
class Replicate:
    """One traced call of one fresh model."""

    index: int
    trace: Trace
    analysis: Analysis


class Replicates:
    """The stream of replicates of a target.

    Args:
        factory: called without arguments; returns a freshly initialized model.
        shape: of one sample; the model is called on (3, *shape).
        inputs: makes the arguments in ``shape``'s place, under a seed of its own; it may take the
            number of samples.
        seed: root seed.
        deadline: `time.monotonic` after which `OutOfTime` is raised.

    Raises:
        BadTarget: the factory or the model fails, or returns what cannot be called.
    """

    def __init__(
        self,
        factory: Callable[[], Any],
        shape: tuple[int, ...],
        inputs: Callable[..., Any] | None,
        seed: int,
        deadline: float | None,
    ) -> None:
        self._factory = factory
        self._shape = shape
        self._inputs = inputs
        self._seed = seed
        self._alarm = Alarm(deadline)
        self.captured = Captured()
        self._analyses: dict[int, Analysis] = {}
        self._kept: set[int] = set()
        self.first = self._survey()

    @property
    def programs(self) -> int:
        """How many different programs there were."""
        return len(self._analyses)

    def draw(self, index: int) -> Replicate:
        """Replicate number ``index``, 0 being the first; the same at every call."""
        with isolated(replicate_seed(self._seed, index), self.captured):
            model = self._build()
            seen = self._call(model, self._arguments(model, index, BATCH))
        return Replicate(index, seen, self._analysis(seen))

    # -- one call ---------------------------------------------------------------

    def _survey(self) -> Replicate:
        """The first replicate, looked at twice: with another batch, and for what did not stay."""
        with isolated(replicate_seed(self._seed, 0), self.captured):
            model = self._build()
            arguments = self._arguments(model, 0, BATCH)
            try:
                seen = self._call(model, arguments)
            except BadTarget as error:
                if error.__cause__ is None or not self._runs_unwatched(arguments):
                    raise
                return _unseen(error)
            other: Trace | None = None
            try:
                free = self._inputs is None or _takes_batch(self._inputs)
                batch = OTHER_BATCH if free else BATCH
                other = self._call(model, self._arguments(model, 0, batch))
            except BadTarget:
                pass  # a model may insist on its batch; then shapes alone must tell
        told_apart = other is not None and other.batch != seen.batch
        analysis = _analyse(seen, other if told_apart else None)
        flags, layers = list(analysis.findings.flags), analysis.layers
        if other is not None:
            flags += [*made_on_the_way(seen, other), *remembered(seen, other)]
            if told_apart:
                layers = loops_over_samples(layers, seen, other)
        if not all(layer.relu_known for layer in layers):
            layers = self._told_by_others(layers)
        flags += [
            f"ambiguous: whether a ReLU is behind layer {t}: what comes out of it is never below 0"
            for t, layer in enumerate(layers, 1)
            if not layer.relu_known
        ]
        found = Findings(layers, tuple(flags), analysis.findings.ordinary)
        analysis = Analysis(found, analysis.weights, analysis.biases)
        self._analyses[seen.program] = analysis
        self._kept.add(id(seen))
        return Replicate(0, seen, analysis)

    def _told_by_others(self, layers: tuple[TracedLayer, ...]) -> tuple[TracedLayer, ...]:
        """Where no value was negative, a ReLU looks like the identity: look at other replicates."""
        for index in range(1, 1 + MOST_OTHERS):
            with isolated(replicate_seed(self._seed, index), self.captured):
                model = self._build()
                twins = find_layers(self._call(model, self._arguments(model, index, BATCH))).layers
            if len(twins) != len(layers):
                break
            layers = tuple(
                replace(
                    layer, relu=twin.relu, activation=twin.activation, relu_known=twin.relu_known
                )
                if not layer.relu_known
                else layer
                for layer, twin in zip(layers, twins, strict=True)
            )
            if all(layer.relu_known for layer in layers):
                break
        return layers

    def _runs_unwatched(self, arguments: tuple[Any, ...]) -> bool:
        """Whether a fresh model runs where nobody looks: then it is the tracer that fails, not the target."""
        if "torch._dynamo" in sys.modules:  # it may be left half-way
            torch.compiler.reset()
        try:
            model = self._build()
            self._alarm.call(model, *arguments)
        except (OutOfTime, KeyboardInterrupt):
            raise
        except BaseException:  # noqa: BLE001  the first error is the one to tell
            return False
        return True

    def _build(self) -> Any:
        try:
            model = self._alarm.call(self._factory)
        except (OutOfTime, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise BadTarget(f"the factory raised {_told(error)}") from error
        if not callable(model):
            allowed = "a module or another callable"
            raise BadTarget(f"the factory returned {_kind(model)}; allowed: {allowed}")
        return model

    def _call(self, model: Any, arguments: tuple[Any, ...]) -> Trace:
        names: dict[int, str] = {}
        if isinstance(model, nn.Module):
            tensors = (*model.named_parameters(), *model.named_buffers())
            if tensors and all(tensor.device.type == "meta" for _, tensor in tensors):
                raise BadTarget("the model is on the meta device, whose tensors have no values")
            names = _names(model)
        alarm = self._alarm
        returned: list[Any] = []

        def run(*given: Any) -> Any:
            returned.append(alarm.call(model, *given))
            if isinstance(model, nn.Module):  # a lazy module draws its parameters in its first call
                names.update({at: name for at, name in _names(model).items() if at not in names})
            return returned[0]

        shapes = ", ".join(str(tuple(t.shape)) for t in tensors_in(arguments))
        try:
            seen = trace(run, arguments, names=names, deadline=alarm.deadline)
        except (OutOfTime, KeyboardInterrupt):
            raise
        except BaseException as error:
            raise BadTarget(f"the model raised {_told(error)} on an input of {shapes}") from error
        if returned[0] is None:
            raise BadTarget(f"the model returned None on an input of {shapes}; allowed: its output")
        return seen

    def _arguments(self, model: Any, index: int, batch: int) -> tuple[Any, ...]:
        if self._inputs is not None:
            with isolated(replicate_seed(self._seed, index, "inputs"), self.captured):
                try:
                    told = (batch,) if _takes_batch(self._inputs) else ()
                    given = self._alarm.call(self._inputs, *told)
                except (OutOfTime, KeyboardInterrupt):
                    raise
                except BaseException as error:
                    raise BadTarget(f"the inputs function raised {_told(error)}") from error
            if not any(True for _ in tensors_in(given)):
                raise BadTarget(f"the inputs function returned {_kind(given)}; allowed: tensors")
            return tuple(given) if is_list(given) else (given,)
        like = _parameter(model)
        generator = torch.Generator().manual_seed(replicate_seed(self._seed, index, "inputs"))
        x = torch.randn(batch, *self._shape, generator=generator, dtype=torch.float64)
        dtype = torch.get_default_dtype() if like is None else like.dtype
        return (x.to("cpu" if like is None else like.device, dtype),)

    def _analysis(self, seen: Trace) -> Analysis:
        known = self._analyses.get(seen.program)
        if known is None:
            known = _analyse(seen, None)
            if len(self._analyses) < MOST_PROGRAMS:
                self._analyses[seen.program] = known
                self._kept.add(id(seen))
        return known

    def release(self, replicate: Replicate) -> None:
        """Free a replicate's tensors at once, unless an analysis still refers to its trace."""
        if id(replicate.trace) not in self._kept:
            for node in replicate.trace.nodes:
                node.out = node.before = node.template = node.storage = None
                node.refs = ()


def _unseen(error: BadTarget) -> Replicate:
    """What is known of a model that does not bear to be watched."""
    flag = f"uncovered: the model runs, but not while it is watched ({_told(error.__cause__ or error)})"
    analysis = Analysis(Findings((), (flag,), 0), (), ())
    return Replicate(0, Trace((), (), 0, (), (), {}, 0, 0), analysis)


def _names(model: nn.Module) -> dict[int, str]:
    """Names of parameters and buffers by the address of their storage."""
    found: dict[int, str] = {}
    for name, tensor in (*model.named_parameters(), *model.named_buffers()):
        if not is_lazy(tensor) and tensor.layout == torch.strided:
            found.setdefault(tensor.untyped_storage().data_ptr(), name)
    return found


def _takes_batch(inputs: Callable[..., Any]) -> bool:
    """Whether a function of inputs wants to be told the number of samples."""
    try:
        parameters = inspect.signature(inputs).parameters.values()
    except (TypeError, ValueError):
        return False
    return any(
        p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        for p in parameters
    )


def _analyse(seen: Trace, other: Trace | None) -> Analysis:
    findings = find_layers(seen, other)
    labels = Labels()
    weights = tuple(source_of(seen, layer.weight, labels) for layer in findings.layers)
    biases = tuple(
        source_of(seen, layer.b, labels) if layer.bias == "generated" and layer.b else None
        for layer in findings.layers
    )
    flags = (*findings.flags, *_low_rank(findings.layers, weights))
    return Analysis(Findings(findings.layers, flags, findings.ordinary), weights, biases)


def factorized(layers: tuple[TracedLayer, ...], weights: tuple[Mixture, ...]) -> list[int]:
    """Pairs of layers, by the first one, that may be one layer of low rank, used in two steps.

    A narrow waist between them, with nothing added there, and one contraction that makes both.
    """
    found: list[int] = []
    for t, (first, second) in enumerate(pairwise(layers)):
        made = [{part.node for part in weights[n].parts} for n in (t, t + 1)]
        narrow = first.d_i < min(first.d_j, second.d_i) and first.bias == "none"
        if second.x.node.index == first.node and narrow and made[0] & made[1]:
            found.append(t)
    return found


def _low_rank(layers: tuple[TracedLayer, ...], weights: tuple[Mixture, ...]) -> list[str]:
    return [
        "ambiguous: two contractions of one generated factorization "
        f"(layers {t + 1} and {t + 2}: two layers, or one of low rank?)"
        for t in factorized(layers, weights)
    ]


def _parameter(model: Any) -> Tensor | None:
    if isinstance(model, nn.Module):
        for parameter in model.parameters():
            if not is_lazy(parameter) and parameter.dtype.is_floating_point:
                return parameter
    return None


def _kind(value: object) -> str:
    """What to call a value that will not do."""
    return type(value).__name__


def _told(error: BaseException) -> str:
    """An error on one line."""
    try:
        text = " ".join(str(error).split())
    except Exception:  # noqa: BLE001  foreign code writes its own words
        text = "its text cannot be shown"
    text = text if len(text) <= 200 else text[:197] + "..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
