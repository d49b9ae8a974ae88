"""The right hypernets, all of them."""

from __future__ import annotations

import right_biases
import right_conv
import right_dense
import right_products

TARGETS = (*right_dense.table, *right_biases.table, *right_conv.table, *right_products.table)
