"""Hypernets of hypnettorch 0.0.4, initialized by hypnettorch's own methods.

Needs ``hypnettorch==0.0.4`` with ``matplotlib`` and ``pandas`` beside it, which it imports without
asking for them. HMLP has one output layer for the whole mainnet, ChunkedHMLP makes it chunk by
chunk from chunk embeddings. ``apply_hyperfan_init`` is the former's hyperfan init,
``apply_chunked_hyperfan_init`` a heuristic of hypnettorch's own for the latter: there the chunk
embeddings carry the variance that the rule asks for.

Inputs: 24 numbers for the MLP mainnets, 784 for LeNet, 192 for ResNet (flat images, as hypnettorch
takes them).
"""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence

from hypnettorch.hnets import HMLP, ChunkedHMLP
from hypnettorch.hnets.hnet_helpers import init_conditional_embeddings
from hypnettorch.mnets import MLP, LeNet, ResNet
from mainnet_layers import Generated, MainnetLayer, Target
from torch import Tensor, nn

EMBEDDING = 16  # entries of the embedding of HMLP
TRUNK = (32, 32)  # hidden layers of the hypernet, where it has some


class Hypnettorch(Target):
    """A hypernet and a mainnet without weights of its own."""

    def __init__(self, hnet: nn.Module, mnet: nn.Module, *, relu: bool = True) -> None:
        super().__init__()
        self.hnet, self.mnet = hnet, mnet
        kinds = [meta["name"] for meta in mnet.param_shapes_meta]
        shapes = [tuple(shape) for shape in mnet.param_shapes]
        self.weights = [i for i, kind in enumerate(kinds) if kind == "weight"]
        biased = [kinds[i + 1 : i + 2] == ["bias"] for i in self.weights]
        last = len(biased) - 1
        self.layers = [
            MainnetLayer(f"layer {t + 1}", shapes[i], relu and t < last, biased[t])
            for t, i in enumerate(self.weights)
        ]

    def forward(self, x: Tensor) -> Tensor:
        return self.mnet.forward(x, weights=self.hnet.forward(cond_id=0))

    def generate(self) -> Generated:
        made = self.hnet.forward(cond_id=0)
        return [
            (made[i], made[i + 1] if layer.bias else None)
            for i, layer in zip(self.weights, self.layers, strict=True)
        ]


# --- Mainnets: none has weights of its own. ----------------------------------------------------------


def _mlp(*, bias: bool, relu: bool = True, widths: Sequence[int] = (24, 32, 20, 14)) -> MLP:
    activation = nn.ReLU() if relu else None
    return MLP(
        widths[0], widths[-1], widths[1:-1], activation,
        use_bias=bias, no_weights=True, verbose=False,
    )  # fmt: skip


def _lenet() -> LeNet:
    return LeNet(arch="mnist_small", no_weights=True, verbose=False)


def _resnet(*, bias: bool = True, batch_norm: bool = False) -> ResNet:
    return ResNet(
        in_shape=(8, 8, 3), num_classes=10, num_feature_maps=(4, 6, 8, 12), n=1, use_bias=bias,
        no_weights=True, use_batch_norm=batch_norm, verbose=False,
    )  # fmt: skip


# --- Hypernets. --------------------------------------------------------------------------------------


def _hmlp(
    method: str | None,
    mnet: nn.Module,
    *,
    xavier: bool = False,
    trunk: Sequence[int] = (),
    activation: nn.Module | None = None,
    embedding_std: float = 1.0,
    told_variance: float = 1.0,
    tell_mainnet: bool = True,
    relu: bool = True,
) -> Hypnettorch:
    hnet = HMLP(
        mnet.hyper_shapes_learned, cond_in_size=EMBEDDING, layers=trunk, verbose=False,
        activation_fn=nn.ReLU() if activation is None else activation,
    )  # fmt: skip
    if embedding_std != 1.0:
        init_conditional_embeddings(hnet, normal_std=embedding_std)
    if method is not None:
        hnet.apply_hyperfan_init(
            method=method,
            use_xavier=xavier,
            cond_var=told_variance,
            mnet=mnet if tell_mainnet else None,
        )
    return Hypnettorch(hnet, mnet, relu=relu)


def _chunked(
    method: str | None,
    mnet: nn.Module,
    *,
    xavier: bool = False,
    trunk: Sequence[int] = (),
    chunk: int = 40,
    embedding: int = 0,
    embedding_std: float = 1.0,
    relu: bool = True,
) -> Hypnettorch:
    """Without a shared embedding (``embedding=0``) the chunk embeddings alone are the input."""
    hnet = ChunkedHMLP(
        mnet.hyper_shapes_learned, chunk, chunk_emb_size=EMBEDDING, cond_in_size=embedding,
        cond_chunk_embs=embedding == 0, layers=trunk, verbose=False,
    )  # fmt: skip
    if embedding_std != 1.0:
        init_conditional_embeddings(hnet, normal_std=embedding_std)
    if method is not None:
        # It prints a line, which is not part of the model's answer.
        with contextlib.redirect_stdout(io.StringIO()):
            hnet.apply_chunked_hyperfan_init(
                method=method, use_xavier=xavier, cond_var=embedding_std**2, mnet=mnet
            )
    return Hypnettorch(hnet, mnet, relu=relu)


# --- HMLP, linear hypernet, the Kaiming option (the default). ----------------------------------------


def hmlp_default_mlp():
    """As constructed: torch's default everywhere, biases of the output layer drawn too."""
    return _hmlp(None, _mlp(bias=True))


def hmlp_in_mlp():
    return _hmlp("in", _mlp(bias=False))


def hmlp_in_mlp_biases():
    return _hmlp("in", _mlp(bias=True))


def hmlp_out_mlp():
    return _hmlp("out", _mlp(bias=False))


def hmlp_out_mlp_biases():
    return _hmlp("out", _mlp(bias=True))


def hmlp_harmonic_mlp():
    return _hmlp("harmonic", _mlp(bias=False))


def hmlp_harmonic_mlp_biases():
    """Raises ZeroDivisionError: a layer that does not widen has no hyperfan-out bias variance."""
    return _hmlp("harmonic", _mlp(bias=True))


def hmlp_harmonic_widening_mlp_biases():
    """Every layer widens, so that it builds."""
    return _hmlp("harmonic", _mlp(bias=True, widths=(24, 32, 40)))


# --- HMLP, the Xavier option. ------------------------------------------------------------------------


def hmlp_in_xavier_mlp():
    """On a ReLU mainnet, which the option is not meant for."""
    return _hmlp("in", _mlp(bias=False), xavier=True)


def hmlp_in_xavier_linear_mlp():
    return _hmlp("in", _mlp(bias=False, relu=False), xavier=True, relu=False)


def hmlp_in_xavier_linear_mlp_biases():
    return _hmlp("in", _mlp(bias=True, relu=False), xavier=True, relu=False)


def hmlp_out_xavier_linear_mlp_biases():
    return _hmlp("out", _mlp(bias=True, relu=False), xavier=True, relu=False)


# --- HMLP with hidden layers. ------------------------------------------------------------------------


def hmlp_in_relu_trunk_mlp():
    return _hmlp("in", _mlp(bias=False), trunk=TRUNK)


def hmlp_out_relu_trunk_mlp_biases():
    return _hmlp("out", _mlp(bias=True), trunk=TRUNK)


def hmlp_in_relu_trunk_xavier_linear_mlp():
    return _hmlp("in", _mlp(bias=False, relu=False), xavier=True, trunk=TRUNK, relu=False)


def hmlp_in_tanh_trunk_xavier_linear_mlp():
    return _hmlp(
        "in", _mlp(bias=False, relu=False), xavier=True, trunk=TRUNK, activation=nn.Tanh(), relu=False
    )  # fmt: skip


# --- HMLP, what it is told. --------------------------------------------------------------------------


def hmlp_in_mlp_variance_told():
    """Embeddings of standard deviation 0.1, and hypnettorch is told so."""
    return _hmlp("in", _mlp(bias=False), embedding_std=0.1, told_variance=0.01)


def hmlp_in_mlp_variance_not_told():
    """Embeddings of standard deviation 0.1, while hypnettorch takes them to be standard normal."""
    return _hmlp("in", _mlp(bias=False), embedding_std=0.1)


def hmlp_in_mlp_biases_mainnet_not_told():
    return _hmlp("in", _mlp(bias=True), tell_mainnet=False)


# --- HMLP, convolutional mainnets. -------------------------------------------------------------------


def hmlp_in_lenet():
    return _hmlp("in", _lenet())


def hmlp_out_lenet():
    return _hmlp("out", _lenet())


def hmlp_in_relu_trunk_lenet():
    return _hmlp("in", _lenet(), trunk=TRUNK)


def hmlp_in_resnet():
    """ResNet-8 without batch norm and without biases."""
    return _hmlp("in", _resnet(bias=False))


def hmlp_in_resnet_biases():
    return _hmlp("in", _resnet())


def hmlp_out_resnet_biases():
    return _hmlp("out", _resnet())


def hmlp_in_resnet_biases_mainnet_not_told():
    return _hmlp("in", _resnet(), tell_mainnet=False)


def hmlp_in_resnet_batch_norm():
    """Scales and shifts of the batch norms are generated too, as constants one and zero."""
    return _hmlp("in", _resnet(bias=False, batch_norm=True))


# --- ChunkedHMLP. ------------------------------------------------------------------------------------
# A chunk of 8 numbers divides every weight and bias of the widths below, so none straddles two layers.

EVEN = (24, 40, 16, 24)
WIDENING = (24, 32, 40, 24)


def chunked_default_mlp():
    """As constructed: torch's default everywhere, standard normal chunk embeddings."""
    return _chunked(None, _mlp(bias=False, widths=EVEN), chunk=8)


def chunked_in_mlp():
    return _chunked("in", _mlp(bias=False, widths=EVEN), chunk=8)


def chunked_in_mlp_biases():
    return _chunked("in", _mlp(bias=True, widths=EVEN), chunk=8)


def chunked_out_mlp():
    return _chunked("out", _mlp(bias=False, widths=EVEN), chunk=8)


def chunked_harmonic_mlp():
    return _chunked("harmonic", _mlp(bias=False, widths=EVEN), chunk=8)


def chunked_in_xavier_linear_mlp():
    mnet = _mlp(bias=False, relu=False, widths=EVEN)
    return _chunked("in", mnet, xavier=True, chunk=8, relu=False)


def chunked_out_xavier_linear_mlp():
    mnet = _mlp(bias=False, relu=False, widths=EVEN)
    return _chunked("out", mnet, xavier=True, chunk=8, relu=False)


def chunked_in_xavier_widening_linear_mlp():
    """No layer is narrower than its neighbours: a call of it cannot be taken for one of low rank."""
    mnet = _mlp(bias=False, relu=False, widths=WIDENING)
    return _chunked("in", mnet, xavier=True, chunk=8, relu=False)


def chunked_out_xavier_widening_linear_mlp():
    mnet = _mlp(bias=False, relu=False, widths=WIDENING)
    return _chunked("out", mnet, xavier=True, chunk=8, relu=False)


def chunked_in_xavier_linear_mlp_biases():
    mnet = _mlp(bias=True, relu=False, widths=EVEN)
    return _chunked("in", mnet, xavier=True, chunk=8, relu=False)


def chunked_in_relu_trunk_mlp():
    return _chunked("in", _mlp(bias=False, widths=EVEN), trunk=TRUNK, chunk=8)


def chunked_in_relu_trunk_xavier_linear_mlp():
    mnet = _mlp(bias=False, relu=False, widths=EVEN)
    return _chunked("in", mnet, xavier=True, trunk=TRUNK, chunk=8, relu=False)


def chunked_in_shared_embedding_mlp():
    """A shared embedding of the default variance beside the chunk embeddings: these are clipped."""
    return _chunked("in", _mlp(bias=False, widths=EVEN), chunk=8, embedding=EMBEDDING)


def chunked_in_small_shared_embedding_mlp():
    """A shared embedding small enough not to be clipped, and told so."""
    return _chunked(
        "in", _mlp(bias=False, widths=EVEN), chunk=8, embedding=EMBEDDING, embedding_std=0.1
    )  # fmt: skip


def chunked_in_straddling_xavier_linear_mlp():
    """Chunks of 500 numbers: most hold weights of two layers."""
    mnet = _mlp(bias=False, relu=False, widths=EVEN)
    return _chunked("in", mnet, xavier=True, chunk=500, relu=False)


def chunked_in_lenet():
    return _chunked("in", _lenet(), chunk=250)


def chunked_in_relu_trunk_lenet():
    return _chunked("in", _lenet(), trunk=TRUNK, chunk=250)
