"""Measures candidates: child processes with limits, interleaved blocks, the machine-wide lock, and the statistics."""
