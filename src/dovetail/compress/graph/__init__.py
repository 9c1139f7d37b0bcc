"""Editing of ONNX graphs: reading and writing, matching, and exact rewrite rules."""
