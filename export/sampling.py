"""New examples from an exported denoiser: the sampler's loop, as an app runs it.

Ancestral sampling (DDPM: Ho, Jain, Abbeel 2020, arXiv:2006.11239, algorithm 2), or with fewer steps and no noise but
the first (DDIM: Song, Meng, Ermon 2020, arXiv:2010.02502, eq. 12 with σ = 0).
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgedl.core.contract import Contract, NoiseSchedule
from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.isolation import run_isolated
from edgedl.core.noise_schedule import alpha_bars, betas
from edgedl.export.inference import open_file
from edgedl.export.metadata import read_metadata
from edgedl.export.onnx_metadata import read_onnx_contract

Predict = Callable[[NDArray[np.float32], int], NDArray[Any]]
"""The noise in examples (n, *shape) at step t (from 0)."""


def sample(file: Path | str, n: int, *, seed: int = 0, steps: int | None = None) -> NDArray[np.float32]:
    """n new examples of shape (n, *shape), in the model's normalised units.

    file: a .tflite or .onnx denoiser that edgedl exported; its metadata holds the noise schedule. seed: of all noise.
    steps: None takes every step of the schedule (DDPM); a smaller number skips evenly (DDIM).
    Raises ModelError for another model, ConfigError for steps that the schedule does not have.
    """
    path = Path(file)
    contract = _contract(path)
    schedule = contract.noise
    assert schedule is not None
    if steps is not None and not 1 <= steps <= schedule.steps:
        raise ConfigError(
            "steps cannot be followed", required=f"1 to {schedule.steps}, as the schedule has", received=str(steps)
        )
    return run_isolated(_sample, path, contract, n, seed, steps, stage="sampling", subject=path.name, nursery="runtime")


def _contract(path: Path) -> Contract:
    if path.suffix == ".onnx":
        import onnx

        model = onnx.load(str(path), load_external_data=False)
        contract = read_onnx_contract({one.key: one.value for one in model.metadata_props})[0]
    else:
        contract = read_metadata(path).contract
    if contract is None or contract.noise is None:
        raise ModelError(
            f"{path.name} is no denoiser that edgedl exported",
            required="a file whose metadata holds a noise schedule (family ddpm)",
            received="no contract" if contract is None else f"a model for {contract.task}",
        )
    return contract


def _sample(path: Path, contract: Contract, n: int, seed: int, steps: int | None) -> NDArray[np.float32]:
    session = open_file(path)
    given, when = contract.inputs
    answer = contract.outputs[0].name

    def predict(x: NDArray[np.float32], t: int) -> NDArray[Any]:
        time = np.full((1, *when.shape), t, when.dtype)
        return np.concatenate([session.invoke({given.name: one[None], when.name: time})[answer] for one in x])

    assert contract.noise is not None
    return follow(predict, contract.noise, (n, *given.shape), seed, steps)


def follow(
    predict: Predict, schedule: NoiseSchedule, shape: tuple[int, ...], seed: int, steps: int | None = None
) -> NDArray[np.float32]:
    """From pure noise of `shape` to examples, with whatever tells the noise."""
    rng = np.random.default_rng(seed)
    beta, kept = betas(schedule), alpha_bars(schedule)
    x = rng.standard_normal(shape, np.float32)
    if steps is not None:
        times = np.unique(np.linspace(0, schedule.steps - 1, steps).round().astype(int))[::-1]
        for t, after in zip(times, [*times[1:], -1], strict=True):
            noise = predict(x, int(t))
            clean = (x - np.sqrt(1 - kept[t]) * noise) / np.sqrt(kept[t])
            left = kept[after] if after >= 0 else 1.0
            x = (np.sqrt(left) * clean + np.sqrt(1 - left) * noise).astype(np.float32)
        return x
    for t in reversed(range(schedule.steps)):
        mean = (x - beta[t] / np.sqrt(1 - kept[t]) * predict(x, t)) / np.sqrt(1 - beta[t])
        fresh = rng.standard_normal(shape, np.float32) if t else 0.0
        x = (mean + np.sqrt(beta[t]) * fresh).astype(np.float32)
    return x
