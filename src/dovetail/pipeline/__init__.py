"""Wires the stages. Read :func:`dovetail.pipeline.optimize.optimize` first: it tells the whole story."""
