"""Wrong hypernets whose weights are more than an output layer times features."""

from __future__ import annotations

import math

from right_products import (
    LAYERS,
    LeafAndDelta,
    LiveBias,
    LowRank,
    Masked,
    Nested,
    Standardized,
    TwoCodes,
    TwoLayers,
)
from target import Table

table = Table()


@table.wrong("ReLU factor missing", (24,), LAYERS, {"W1": 0.5})
def half_leaf_half_delta_without_relu_factor():
    return TwoLayers(lambda d_j, d_i, s: LeafAndDelta(d_j, d_i, 1 / d_j))


@table.wrong("other", (24,), LAYERS, 1.25)
def live_output_bias_on_top():
    """The output layer is right by itself; its drawn bias adds a quarter."""
    return TwoLayers(lambda d_j, d_i, s: LiveBias(d_j, d_i, s / d_j, 0.25 * s / d_j))


@table.wrong("other", (24,), LAYERS, 8)
def low_rank_with_the_rank_forgotten():
    return TwoLayers(lambda d_j, d_i, s: LowRank(d_j, d_i, 1 / d_j, s))


@table.wrong("variance used as standard deviation", (24,), LAYERS, {"W1": 2 / 24, "W2": 1 / 32})
def standardized_then_times_the_variance():
    return TwoLayers(lambda d_j, d_i, s: Standardized(d_j, d_i, s / d_j))


@table.wrong("ReLU factor on a linear layer", (24,), LAYERS, {"W2": 2})
def standardized_with_relu_gain():
    return TwoLayers(lambda d_j, d_i, s: Standardized(d_j, d_i, math.sqrt(2 / d_j)))


@table.wrong("other", (24,), LAYERS, 16)
def nested_with_outer_size_forgotten():
    return TwoLayers(lambda d_j, d_i, s: Nested(d_j, d_i, s / (d_j * 12), 1))


@table.wrong("fans swapped", (24,), LAYERS, {"W1": 24 / 32, "W2": 32 / 12}, ("hyperfan-in",))
def mask_with_the_other_fan():
    return TwoLayers(lambda d_j, d_i, s: Masked(d_j, d_i, 2 * s / d_i))


@table.wrong("other", (24,), LAYERS, 5)
def two_codes_one_forgotten():
    return TwoLayers(lambda d_j, d_i, s: TwoCodes(d_j, d_i, s / (d_j * 6)))
