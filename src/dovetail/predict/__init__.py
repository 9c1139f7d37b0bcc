"""Estimates before anything runs: rooflines, kernel models learned from measurements, energy, cost."""
