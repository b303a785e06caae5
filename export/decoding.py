"""Greedy decoding with an exported language model: what an app does token by token, on this host."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgedl.core.errors import ModelError
from edgedl.core.isolation import run_isolated
from edgedl.export.inference import open_file
from edgedl.export.inspect import inspect_file


def generate(file: Path | str, prompt: Sequence[int], n: int) -> list[int]:
    """The n tokens that follow `prompt`, each the most likely one (arg-max of the logits) after all before it.

    file: a .tflite or .onnx model of one input, tokens (1, t), and one output, logits (1, t, vocabulary). Its length t
    is fixed: a shorter text is filled up with 0 behind, which a causal model does not see at the last token's
    position; of a longer one the last t tokens count. Raises ModelError for another model, or tokens it does not know.
    """
    path, text = Path(file), [int(token) for token in prompt]
    facts = inspect_file(path)
    if len(facts.inputs) != 1 or len(facts.outputs) != 1 or len(facts.outputs[0].shape) != 3:
        raise ModelError(
            f"{path.name} is no language model",
            required="one input, tokens (1, time), and one output, logits (1, time, vocabulary)",
            received=f"inputs {[one.shape for one in facts.inputs]}, outputs {[one.shape for one in facts.outputs]}",
        )
    vocabulary = facts.outputs[0].shape[2]
    if not text or not all(0 <= token < vocabulary for token in text):
        raise ModelError(
            f"{path.name} cannot go on from this prompt",
            required=f"one token or more, each 0 to {vocabulary - 1}",
            received=str(text[:20]),
        )
    length = facts.inputs[0].shape[1]
    return run_isolated(_generate, path, text, n, length, stage="decoding", subject=path.name, nursery="runtime")


def _generate(path: Path, text: list[int], n: int, length: int) -> list[int]:
    session = open_file(path)
    name = next(iter(session.sizes))
    for _ in range(n):
        window = text[-length:]
        tokens = np.zeros((1, length), np.int32)
        tokens[0, : len(window)] = window
        (logits,) = session.invoke({name: tokens}).values()
        text.append(int(logits[0, len(window) - 1].argmax()))
    return text[len(text) - n :]
