"""Calibration: what the activations do on representative data, which ranges their integers get, and what is suspect.

float32 .tflite + examples ─► statistics ─► ranges (percentile, MSE, entropy) ─► quantizer
                                        └─► lint ─► warnings that name the layer
"""
