"""ONNX graphs: reading, running, shapes."""
