"""Translates ONNX models into the formats of other runtimes."""
