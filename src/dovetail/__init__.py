"""Fits neural networks to the hardware they run on, and proves it."""
