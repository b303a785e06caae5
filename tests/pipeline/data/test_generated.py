"""Generated data has the answers that it says it has."""

from __future__ import annotations

import numpy as np
import pytest

from edgedl.core.errors import DataError
from edgedl.pipeline.data import (
    CopySequence,
    Digits,
    GaussianRing,
    Shapes,
    SineMixture,
    SplitConfig,
    TicTacToe,
    load_splits,
)
from edgedl.pipeline.data.gaussian_ring import centres
from edgedl.pipeline.data.tic_tac_toe import outcome, play, value

ALL = (
    CopySequence(source="copy-sequence", n=50),
    SineMixture(source="sine-mixture", n=50),
    GaussianRing(source="gaussian-ring", n=200),
    Shapes(source="shapes", n=20),
)


@pytest.mark.parametrize("source", ALL, ids=lambda source: source.source)
def test_the_seed_decides(source: CopySequence) -> None:
    again, other = source.load(), source.model_copy(update={"generator_seed": 1}).load()
    assert source.load().examples.fingerprint() == again.examples.fingerprint() != other.examples.fingerprint()
    splits = load_splits(source, SplitConfig(), 0)
    assert len(splits.train) > len(splits.test) > 0


def test_the_second_half_repeats_the_first() -> None:
    found = CopySequence(source="copy-sequence", n=10, half=5).load()
    tokens = np.concatenate([found.examples.raw(np.arange(10)), found.examples.targets[:, -1:]], axis=1)
    assert np.array_equal(tokens[:, :5], tokens[:, 5:])
    assert np.array_equal(found.examples.targets[:, :-1], tokens[:, 1:-1])


def test_a_spectrum_tells_the_class() -> None:
    found = SineMixture(source="sine-mixture", n=300, noise=0.1).load()
    spectrum = abs(np.fft.rfft(found.examples.raw(np.arange(300))[..., 0]))
    assert np.array_equal(spectrum[:, 1:].argmax(axis=1), found.examples.targets)


def test_points_lie_about_their_centres() -> None:
    found = GaussianRing(source="gaussian-ring", n=4000).load()
    points = found.examples.raw(np.arange(4000))
    off = points - centres()[found.examples.targets]
    assert off.std() == pytest.approx(0.05, rel=0.1)


def test_shapes_are_brighter_than_what_is_around() -> None:
    found = Shapes(source="shapes", n=30, noise=0.0).load()
    images, classes = found.examples.raw(np.arange(30))[..., 0], found.examples.targets
    assert np.allclose(images[classes == 0], 0.3)
    assert np.allclose(images[classes > 0], 0.7)
    assert set(np.unique(classes)) == {0, 1, 2, 3}
    circle = next(mask for mask in classes if (mask == 1).sum() > 60)
    rows, columns = np.nonzero(circle == 1)
    assert np.ptp(rows) >= 8
    assert np.ptp(columns) >= 8


def test_tic_tac_toe_is_a_draw_and_counts_are_the_known_ones() -> None:
    found = TicTacToe(source="tic-tac-toe").load()
    assert len(found.examples) == 4520
    assert value((0,) * 9) == 0
    assert value((1, 1, 0, -1, -1, 0, 0, 0, 0)) == 1
    assert outcome(play((1, 1, 0, -1, -1, 0, 0, 0, 0), 2)) == -1
    policy = found.examples.targets[:, :9]
    assert np.allclose(policy.sum(axis=1), 1)
    boards = found.examples.raw(np.arange(4520)).sum(axis=-1).reshape(-1, 9)
    assert not (policy * boards).any()


def test_normal_classes_are_trained_and_others_are_anomalies() -> None:
    source = Digits(source="digits", normal=("0", "1"))
    found = load_splits(source, source.split, 0)
    assert found.task == "anomaly-detection"
    assert not found.train.targets.any()
    assert not found.validation.targets.any()
    assert found.test.targets.mean() == pytest.approx(0.8, abs=0.03)
    with pytest.raises(DataError, match="no class ten"):
        load_splits(Digits(source="digits", normal=("ten",)), source.split, 0)
    with pytest.raises(DataError, match="no class that is an anomaly"):
        load_splits(Digits(source="digits", normal=tuple("0123456789")), source.split, 0)
