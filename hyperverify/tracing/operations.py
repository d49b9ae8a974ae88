"""What the operations that torch dispatches mean for provenance: contractions, moves, pass-throughs.

Whatever is in none of these tables is an operation of its own: its result depends on its operands and
no entry of it is an entry of theirs. So an operation that is missing here is never passed silently.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from hyperverify.tracing.values import Node, Ref, is_list

MATRIX_PRODUCTS = frozenset(
    {"mm", "addmm", "bmm", "baddbmm", "mv", "addmv", "dot", "vdot", "_addmm_activation"}
)
CONVOLUTIONS = frozenset({"convolution", "_convolution", "mkldnn_convolution", "thnn_conv2d"})
OTHER_CONTRACTIONS = frozenset(
    {
        "addbmm", "addr", "ger", "_trilinear", "_grouped_mm", "_scaled_mm", "linalg_multi_dot",
        "_sparse_addmm", "sspaddmm", "_cdist_forward", "mkldnn_rnn_layer", "_thnn_fused_lstm_cell",
        "fft_fft", "linalg_solve_ex", "_linalg_solve_ex", "triangular_solve", "_embedding_bag",
    }
)  # fmt: skip
"""Contractions that have no matrix form here: as generators they are opaque, as layers uncovered."""

CONTRACTIONS = MATRIX_PRODUCTS | CONVOLUTIONS | OTHER_CONTRACTIONS

ATTENTION = frozenset(
    {
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_attention_math",
        "_scaled_dot_product_cudnn_attention",
        "scaled_dot_product_attention",
    }
)
SOFTMAX = frozenset({"_softmax", "_safe_softmax"})

SAME_ENTRIES = frozenset(
    {"clone", "_to_copy", "contiguous", "alias_copy", "detach_copy", "lift_fresh_copy", "_reshape_copy",
     "view_copy", "_unsafe_view", "lift_fresh"}
)  # fmt: skip
"""The result has the first operand's entries in the same logical order."""

MOVES = frozenset(
    {"cat", "stack", "index", "index_select", "gather", "take", "embedding", "flip", "roll", "repeat",
     "constant_pad_nd", "tril", "triu", "where", "slice_scatter", "select_scatter", "diagonal_scatter",
     "as_strided_scatter", "diag_embed", "index_put", "scatter", "pixel_shuffle", "pixel_unshuffle",
     "channel_shuffle", "masked_select", "permute_copy", "expand_copy", "slice_copy", "select_copy",
     "as_strided_copy", "unfold_copy", "transpose_copy", "t_copy", "squeeze_copy", "unsqueeze_copy",
     "unbind_copy", "split_copy", "diagonal_copy", "_index_put_impl",
     "index_copy", "_unsafe_index", "unfold", "narrow_copy", "split_with_sizes_copy", "rot90"}
)  # fmt: skip
"""The result is made of entries of the operands (and zeros), moved: repeat the move on entry labels."""

SCALINGS = frozenset({"mul", "div", "neg", "true_divide"})
"""Entry for entry proportional to one operand, where the other is one number."""

ADDITIONS = frozenset({"add", "sub", "rsub"})
"""Entry for entry equal to one operand, where the other is all zero."""

SUMS = frozenset({"sum", "mean"})

FILLS = frozenset({"zero", "fill", "zeros", "ones", "full", "empty", "empty_strided", "zeros_like",
                   "ones_like", "full_like", "empty_like", "new_zeros", "new_ones", "new_full",
                   "new_empty", "new_empty_strided", "arange", "scalar_tensor", "eye", "linspace",
                   "empty_permuted"})  # fmt: skip
EMPTY = frozenset({"zero", "zeros", "empty", "empty_strided", "zeros_like", "empty_like", "new_zeros",
                   "new_empty", "new_empty_strided", "empty_permuted"})  # fmt: skip
"""Fills that leave nothing but zeros: whatever else is there, torch did not put there."""
SHAPES_ONLY = frozenset({"zeros_like", "ones_like", "empty_like", "rand_like", "randn_like",
                         "randint_like", "new_zeros", "new_ones", "new_empty", "new_empty_strided",
                         "new_full", "full_like", "zero"})  # fmt: skip
"""They read the shape of their first operand, none of its entries."""
DRAWS = frozenset({"rand", "randn", "rand_like", "randn_like", "randint", "randperm", "normal",
                   "uniform", "bernoulli", "normal_functional", "exponential", "random", "log_normal",
                   "cauchy", "geometric", "multinomial", "randint_like"})  # fmt: skip
READS = frozenset({"_local_scalar_dense", "is_nonzero", "equal", "item", "nonzero", "masked_select",
                   "unique_dim", "_unique2", "unique_consecutive", "allclose"})  # fmt: skip
"""Operations that hand a value to Python, or make a shape depend on one."""


def base_name(op: str) -> str:
    """``relu_`` and ``relu`` are one operation; a leading underscore is part of the name."""
    return op[:-1] if op.endswith("_") and not op.endswith("__") else op


@dataclass(frozen=True)
class Contraction:
    """out[b, m, n] = sum over k of left[b, m, k] right[b, k, n], plus a bias that broadcasts to it.

    Attributes:
        node: the result's node.
        left, right, out: of shapes (b, m, k), (b, k, n), (b, m, n); what a batch repeats has stride 0.
        bias: what an ``addmm`` adds, in its own shape, or None.
    """

    node: Node
    left: Ref
    right: Ref
    out: Ref
    bias: Ref | None


def contraction_of(node: Node) -> Contraction | None:
    """The matrix product that a node is, or None."""
    op = base_name(node.op)
    if op not in MATRIX_PRODUCTS or node.template is None or node.out is None:
        return None
    args = [a for a in node.template[0] if isinstance(a, Ref)]
    bias: Ref | None = None
    if op in ("addmm", "baddbmm", "addmv", "_addmm_activation"):
        bias, *args = args
        if _number(node.template[1], "beta", 1) == 0:
            bias = None
    if len(args) != 2:
        return None
    left, right = args
    out = node.out
    if op in ("mv", "addmv"):
        right, out = right.insert(1), out.insert(1)
    elif op in ("dot", "vdot"):
        left, right = left.insert(0), right.insert(1)
        out = out.insert(0).insert(1)
    if op not in ("bmm", "baddbmm"):
        left, right, out = left.insert(0), right.insert(0), out.insert(0)
    return Contraction(node, left, right, out, bias)


def _number(kwargs: dict[str, object], name: str, default: float) -> float:
    value = kwargs.get(name, default)
    return float(value) if isinstance(value, int | float) else default


@dataclass(frozen=True)
class Convolution:
    """A convolution: x (B, C, *size), weight (out, in / groups, *kernel) or transposed (in, out / groups, ...)."""

    node: Node
    x: Ref
    weight: Ref
    bias: Ref | None
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    transposed: bool
    groups: int


def convolution_of(node: Node) -> Convolution | None:
    """The convolution that a node is, or None."""
    if node.op not in CONVOLUTIONS or node.template is None:
        return None
    args = node.template[0]
    if node.op not in ("convolution", "_convolution") or len(args) < 9:
        return None
    x, weight, bias, stride, padding, dilation, transposed, _, groups = args[:9]
    if not (isinstance(x, Ref) and isinstance(weight, Ref)):
        return None
    spatial = len(x.size) - 2

    def whole(values: object) -> tuple[int, ...]:
        given = values if is_list(values) else (values,)
        numbers = tuple(int(cast("int", v)) for v in given)
        return numbers * spatial if len(numbers) == 1 else numbers

    return Convolution(
        node, x, weight, bias if isinstance(bias, Ref) else None,
        whole(stride), whole(padding), whole(dilation), bool(transposed), int(groups),
    )  # fmt: skip
