"""Campaigns: many specs at many seeds on many backends, on one machine or a cluster, resumable.

The way through: ``plan`` reads a plan; ``grids`` and ``families`` make its specs; ``prepared`` counts
its checks, which fixes the alpha of each; ``ledger`` keeps what is done; ``work`` measures one batch of
units, wherever ``local`` or ``dask_engine`` send it; ``merge`` writes ``run.json`` in the plan's order.
"""
