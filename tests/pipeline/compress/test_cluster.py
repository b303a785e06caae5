"""Clustering: how many distinct values there are, and that there are no more in the exported file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.pipeline.compress import small_nets as nets

from edgedl.core.errors import ConfigError, ModelError
from edgedl.core.files import gzip_size
from edgedl.pipeline.compress.base import Altered, FineTune
from edgedl.pipeline.compress.cluster import Cluster
from edgedl.pipeline.compress.fine_tune import FineTuned
from edgedl.pipeline.compress.keeping import still_held
from edgedl.pipeline.compress.kernels import kernels_of
from edgedl.pipeline.compress.promises import kept_promises
from edgedl.pipeline.compress.prune import Prune
from edgedl.pipeline.compress.stored import stored_weights
from edgedl.pipeline.verbs import as_technique

pytestmark = pytest.mark.tensorflow

SHORT = FineTune(epochs=2, learning_rate=1e-3)


def test_every_kernel_has_at_most_the_promised_values_in_the_exported_files(tmp_path: Path) -> None:
    model = nets.convnet()
    bench = nets.bench_of(model, tmp_path)
    before = nets.kernels(model)
    made = Cluster(clusters=8, layers={"point": 4, "probabilities": 0}, fine_tune=SHORT).alter(model, bench)
    found = nets.kernels(made.model)
    counts = {name: len(np.unique(values)) for name, values in found.items()}
    assert counts == {"full/kernel": 8, "deep/depthwise_kernel": 8, "point/kernel": 4, "probabilities/kernel": 320}
    assert [one.layer for one in made.skipped] == ["probabilities"]
    assert not any(np.array_equal(found[name], before[name]) for name in found)
    kept = {one.promise.layer: one for one in kept_promises(nets.exported(made, bench), made.promises, bench.base)}
    assert {name: one.per_channel for name, one in kept.items()} == {"full": True, "deep": True, "point": True}
    kept = {
        one.promise.layer: one
        for one in kept_promises(nets.exported(made, bench, nets.INT8), made.promises, bench.base)
    }
    assert all(one.distinct <= (4 if name == "point" else 8) for name, one in kept.items())


def test_without_a_batchnorm_the_whole_kernel_has_few_values(tmp_path: Path) -> None:
    model = nets.mlp()
    bench = nets.bench_of(model, tmp_path)
    made = Cluster(clusters=16, centroids="linear", fine_tune=None).alter(model, bench)
    kept = kept_promises(nets.exported(made, bench), made.promises, bench.base)
    assert [(one.distinct, one.per_channel) for one in kept] == [(16, False)] * 3


def test_zeros_of_earlier_pruning_stay_and_count(tmp_path: Path) -> None:
    model = nets.convnet()
    pruned = Prune(sparsity=0.6, fine_tune=None).alter(model, nets.bench_of(model, tmp_path))
    bench = nets.bench_of(model, tmp_path / "on", pruned.promises)
    zeros = {name: values == 0 for name, values in nets.kernels(model).items()}
    made = Cluster(clusters=5, fine_tune=SHORT).alter(model, bench)
    for name, values in nets.kernels(made.model).items():
        assert ((values == 0) == zeros[name]).all()
        assert len(np.unique(values)) <= 5
    assert all(one.sparsity is not None and one.clusters == 5 for one in made.promises)
    kept = kept_promises(nets.exported(made, bench, nets.INT8), made.promises, bench.base)
    assert all(one.kept for one in kept)


def test_on_a_grid_all_channels_of_an_int8_file_hold_the_same_few_codes(tmp_path: Path) -> None:
    """Each channel has a step of its own, which folding a BatchNorm and quantization to int8 leave as it is."""
    model = nets.convnet()
    bench = nets.bench_of(model, tmp_path)
    made = Cluster(clusters=15, centroids="grid", fine_tune=SHORT).alter(model, bench)
    full = nets.kernels(made.model)["full/kernel"]
    steps = np.abs(full).max(axis=(0, 1, 2)) / 7
    np.testing.assert_allclose(full / steps, np.round(full / steps), atol=1e-4)
    assert len(np.unique(full)) > 15, "the channels have steps of their own"
    assert all(one.grid and one.clusters == 15 for one in made.promises)
    for numbers in (None, nets.INT8):
        file = nets.exported(made, bench, numbers)
        assert all(one.distinct <= 15 for one in kept_promises(file, made.promises, bench.base))
    codes = {one.layer: len(np.unique(one.values)) for one in stored_weights(file, bench.base.layers)}
    assert codes and all(n <= 15 for n in codes.values()), codes
    plain = nets.exported(Altered(nets.convnet()), nets.bench_of(nets.convnet(), tmp_path / "plain"), nets.INT8)
    assert gzip_size(file) < gzip_size(plain)


def test_int8_says_that_shared_values_became_many_codes(tmp_path: Path) -> None:
    model = nets.convnet()
    bench = nets.bench_of(model, tmp_path)
    shared = Cluster(clusters=8, fine_tune=None)
    made = shared.alter(model, bench)
    altered = nets.bench_of(made.model, tmp_path / "altered", made.promises).base
    told = shared.finish(nets.exported(made, bench, nets.INT8), altered, bench.limits)
    assert "codes in one kernel" in told[-1] and "centroids=grid" in told[-1]
    assert len(shared.finish(nets.exported(made, bench), altered, bench.limits)) == 1


def test_a_grid_is_kept_by_what_comes_after_and_keeps_zeros(tmp_path: Path) -> None:
    model = nets.convnet()
    pruned = Prune(sparsity=0.6, fine_tune=None).alter(model, nets.bench_of(model, tmp_path))
    zeros = {name: values == 0 for name, values in nets.kernels(model).items()}
    bench = nets.bench_of(model, tmp_path / "grid", pruned.promises)
    made = Cluster(clusters=9, centroids="grid", fine_tune=SHORT).alter(model, bench)
    assert all((values == 0)[zeros[name]].all() for name, values in nets.kernels(made.model).items())
    assert all(one.sparsity is not None and one.sparsity >= 0.59 for one in made.promises)
    further = nets.bench_of(made.model, tmp_path / "on", made.promises)
    tuned = FineTuned(fine_tune=SHORT).alter(made.model, further)
    everything = kernels_of(tuned.model)[0]
    assert still_held(everything, made.promises) == list(made.promises)
    assert all(one.kept for one in kept_promises(nets.exported(tuned, further), made.promises, further.base))


def test_recurrent_kernels_have_one_step_in_all(tmp_path: Path) -> None:
    """An int8 LSTM has one scale for each gate's matrix."""
    model = nets.recurrent()
    bench = nets.bench_of(model, tmp_path)
    made = Cluster(clusters=31, centroids="grid", fine_tune=None).alter(model, bench)
    found = {name: len(np.unique(values)) for name, values in nets.kernels(made.model).items()}
    recurrent = [n for name, n in found.items() if "recurrent_kernel" in name]
    assert recurrent and all(n <= 31 for n in recurrent), found


def test_weights_may_change_their_cluster_and_the_values_learn(tmp_path: Path) -> None:
    """Trained from nothing with 4 values a kernel, a net learns to read digits."""
    model = nets.mlp()
    bench = nets.bench_of(model, tmp_path)
    made = Cluster(clusters=4, fine_tune=FineTune(epochs=15, learning_rate=3e-3)).alter(model, bench)
    assert all(len(np.unique(values)) <= 4 for values in nets.kernels(made.model).values())
    assert made.history[-1]["val_accuracy"] > 0.85  # chance is 0.1


def test_the_same_seed_gives_the_same_bytes(tmp_path: Path) -> None:
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()
    found = []
    for run in ("one", "two"):
        model = nets.convnet()
        bench = nets.bench_of(model, tmp_path / run)
        made = Cluster(clusters=6, fine_tune=SHORT).alter(model, bench)
        found.append(b"".join(values.tobytes() for values in nets.kernels(made.model).values()))
    assert found[0] == found[1]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("cluster:clusters=1", "greater than or equal to 2"),
        ("cluster:clusters=-3", "clusters"),
        ("cluster:layers.point=1", "layers.point.*at least 2 clusters, or 0"),
        ("cluster:centroids=random", "kmeans"),
        ("cluster:centroids=grid:clusters=2", "a grid needs at least 3 clusters"),
    ],
)
def test_settings_that_make_no_sense_are_refused(words: str, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        as_technique(words)


def test_what_cannot_be_clustered_or_follow_is_refused(tmp_path: Path) -> None:
    model = nets.mlp()
    bench = nets.bench_of(model, tmp_path)
    made = Cluster(clusters=4, fine_tune=None).alter(model, bench)
    again: Any = nets.bench_of(model, tmp_path / "on", made.promises)
    with pytest.raises(ConfigError, match="prune cannot follow cluster"):
        Prune().alter(model, again)
    with pytest.raises(ModelError, match=r"no layer of this model can be clustered.*at most 4 distinct values"):
        Cluster(clusters=4).alter(model, again)
