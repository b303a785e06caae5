"""Losses of distillation against values computed by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


def test_soft_classes_are_kl_divergence_with_the_factor_of_hinton():
    import tensorflow as tf

    from edgedl.pipeline.compress.distill_losses import class_loss

    teacher, student = tf.constant([[2.0 * math.log(3.0), 0.0]]), tf.constant([[0.0, 0.0]])
    # T = 2: the teacher's softened classes are 3/4 and 1/4, the student's 1/2 and 1/2
    wanted = 4 * (0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5))
    assert float(class_loss(teacher, student, 2.0)) == pytest.approx(wanted, rel=1e-5)
    assert float(class_loss(teacher, teacher, 2.0)) == pytest.approx(0.0, abs=1e-7)


def test_probabilities_and_logits_teach_alike():
    import tensorflow as tf

    from edgedl.pipeline.compress.distill_losses import soft_loss

    rng = np.random.default_rng(0)
    teacher, student = (tf.constant(rng.normal(size=(5, 7, 4)), tf.float32) for _ in range(2))
    of_logits = soft_loss(teacher, student, "logits", "logits", 3.0)
    for kinds in (("probabilities", "logits"), ("logits", "probabilities"), ("probabilities", "probabilities")):
        pairs = zip((teacher, student), kinds, strict=True)
        given = [tf.nn.softmax(one) if kind == "probabilities" else one for one, kind in pairs]
        assert float(soft_loss(*given, *kinds, 3.0)) == pytest.approx(float(of_logits), rel=1e-3)


def test_gradient_of_soft_classes_keeps_its_size_at_high_temperatures():
    """Hinton et al. 2015, eq. 4: for large T, T² times the gradient is (z_s - z_t) / classes for centred logits."""
    import tensorflow as tf

    from edgedl.pipeline.compress.distill_losses import class_loss

    teacher, student = tf.constant([[1.0, -1.0]]), tf.Variable([[0.5, -0.5]])
    with tf.GradientTape() as tape:
        loss = class_loss(teacher, student, 1000.0)
    assert tape.gradient(loss, student).numpy()[0] == pytest.approx([-0.25, 0.25], abs=1e-3)


def test_values_are_squared_differences():
    import tensorflow as tf

    from edgedl.pipeline.compress.distill_losses import soft_loss

    assert float(soft_loss(tf.constant([[1.0, 2.0]]), tf.constant([[0.0, 5.0]]), "values", "values", 9.0)) == 5.0


def test_features_are_half_the_squared_difference_over_the_teachers_mean_square():
    import tensorflow as tf

    from edgedl.pipeline.compress.distill_losses import feature_loss

    teacher, student = tf.constant([[1.0, 3.0]]), tf.constant([[0.0, 1.0]])
    assert float(feature_loss(teacher, student)) == pytest.approx(0.5 * 2.5 / 5.0)


def test_attention_compares_normalised_maps():
    import tensorflow as tf

    from edgedl.pipeline.compress.distill_losses import attention_loss

    teacher = tf.constant([[[[1.0, 1.0], [1.0, 0.0]]]])  # channels' squares: 2 and 1
    student = tf.constant([[[[3.0], [0.0]]]])  # 9 and 0
    root = math.sqrt(5.0)
    wanted = 0.5 * ((2 / root - 1) ** 2 + (1 / root) ** 2) / 2
    assert float(attention_loss(teacher, student)) == pytest.approx(wanted, rel=1e-5)
    assert float(attention_loss(teacher, 7.0 * teacher)) == pytest.approx(0.0, abs=1e-7)


def test_no_loss_has_a_broken_gradient_where_teacher_and_student_agree():
    import tensorflow as tf

    from edgedl.pipeline.compress.distill_losses import attention_loss, feature_loss, soft_loss

    features = tf.Variable(np.random.default_rng(0).random((2, 3, 3, 4)), dtype=tf.float32)
    sure = tf.Variable([[1.0, 0.0, 0.0]])
    with tf.GradientTape(persistent=True) as tape:
        losses = [attention_loss(features, features), feature_loss(tf.zeros_like(features), features * 0.0)]
        of_sure = soft_loss(sure, sure, "probabilities", "probabilities", 4.0)
    for loss in losses:
        assert np.isfinite(tape.gradient(loss, features).numpy()).all()
    assert np.isfinite(tape.gradient(of_sure, sure).numpy()).all()
