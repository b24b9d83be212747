"""The engines on PyTorch: how their weights are loaded, quantized and shared out over processes."""
