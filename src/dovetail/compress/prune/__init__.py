"""Structures that a graph can do without: channels, attention heads, blocks and layers; and single weights."""
