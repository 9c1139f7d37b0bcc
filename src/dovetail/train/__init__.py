"""The one training loop, over the weights of ONNX graphs and of torch modules. Its modules load torch."""
