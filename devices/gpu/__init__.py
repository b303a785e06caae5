"""The `gpu` device: LiteRT's WebGPU path and ONNX Runtime's CUDA and WebGPU ones, on this computer's GPU."""
