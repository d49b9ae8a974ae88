"""The small structures, all of them."""

from __future__ import annotations

import structures_calls
import structures_flags
import structures_idioms
import structures_mainnets
import structures_products
import structures_weights

STRUCTURES = (
    *structures_calls.table,
    *structures_mainnets.table,
    *structures_products.table,
    *structures_weights.table,
    *structures_flags.table,
    *structures_idioms.table,
)
