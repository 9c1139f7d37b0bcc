"""Writes results for use elsewhere: the artifact folder, and packages for other systems."""
