"""LiteRT files (``.tflite``) to ONNX: the operator table of the lowering, read backwards."""

from dovetail.lowering.raising.importer import ImportReport, raise_to_onnx

__all__ = ["ImportReport", "raise_to_onnx"]
