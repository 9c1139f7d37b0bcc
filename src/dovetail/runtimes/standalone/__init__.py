"""Sessions that need numpy and one runtime, nothing of ours: they are copied into artifacts as they stand."""
