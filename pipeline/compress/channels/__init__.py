"""Structured pruning: channels are removed, and what stays is a smaller dense model, which any runtime runs faster.

graph: which channels stand or fall together; rules: what each kind of layer says of that; trace: the graph walked.
importance, selection: which go; surgery: the smaller model; recalibrate: its BatchNorms; prune_channels: the technique.
"""

from edgedl.pipeline.compress.channels.prune_channels import PruneChannels

__all__ = ["PruneChannels"]
