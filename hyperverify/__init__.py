"""hyperverify: does this hypernetwork generate weights of the right scale? Three witnesses answer.

Names are loaded when they are first used, so that importing the package costs no import of torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hyperverify.calibrate import calibrate_
    from hyperverify.check_results import CheckResult
    from hyperverify.checking import BadTarget, check
    from hyperverify.formulas import variance
    from hyperverify.init import init_hypernet_
    from hyperverify.nets import Hypernet
    from hyperverify.runner import RunSettings, run, verify
    from hyperverify.specs import (
        ChunkSpec,
        EmbeddingSpec,
        HypernetSpec,
        LayerSpec,
        TrunkLayerSpec,
    )

__version__ = "0.1.0"

__all__ = [
    "BadTarget",
    "CheckResult",
    "ChunkSpec",
    "EmbeddingSpec",
    "Hypernet",
    "HypernetSpec",
    "LayerSpec",
    "RunSettings",
    "TrunkLayerSpec",
    "calibrate_",
    "check",
    "init_hypernet_",
    "run",
    "variance",
    "verify",
]

_HOMES = {
    "BadTarget": "checking",
    "CheckResult": "check_results",
    "ChunkSpec": "specs",
    "EmbeddingSpec": "specs",
    "Hypernet": "nets",
    "HypernetSpec": "specs",
    "LayerSpec": "specs",
    "RunSettings": "runner",
    "TrunkLayerSpec": "specs",
    "calibrate_": "calibrate",
    "check": "checking",
    "init_hypernet_": "init",
    "run": "runner",
    "variance": "formulas",
    "verify": "runner",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
