"""Which recipes there are, which to try next, which to drop: ask/tell over recipes, the journal, the Pareto front."""
