"""Integers in ONNX graphs."""
