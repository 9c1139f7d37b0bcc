"""Time of a whole network in PyTorch, eager or compiled, from what its operators add up to."""
