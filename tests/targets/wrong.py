"""The wrong hypernets, all of them."""

from __future__ import annotations

import wrong_conv
import wrong_dense
import wrong_hyper
import wrong_products

TARGETS = (*wrong_dense.table, *wrong_hyper.table, *wrong_conv.table, *wrong_products.table)
