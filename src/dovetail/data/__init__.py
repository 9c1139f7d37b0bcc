"""Samples, splits, preprocessing, metrics: from a user's files to rows that a claim can rest on.

In processing order: ``job`` (what ``fit.yaml`` says) → ``sources`` (the user's data, as records) → ``intake`` (checks against
the model's inputs, with ``preprocess``) → ``dataset`` (samples on disk that any process can open) → ``split`` → ``evaluator``
with ``metrics`` (one row per independent unit). ``prepare`` runs the first half of it.
"""
