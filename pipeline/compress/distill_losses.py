"""Losses of knowledge distillation; all are scalars, means over the batch, of float32 tensors."""

from __future__ import annotations

from typing import Any, Literal

Content = Literal["probabilities", "logits", "values"]

TINY = 1e-7
"""Probabilities are kept this far from 0 before their logarithm."""


def soft_loss(teacher: Any, student: Any, teacher_content: Content, content: Content, temperature: float) -> Any:
    """The loss of one output, shape (b, …), on the teacher's answer: of classes or of values."""
    if content == "values":
        return value_loss(teacher, student)
    return class_loss(as_logits(teacher, teacher_content), as_logits(student, content), temperature)


def as_logits(output: Any, content: Content) -> Any:
    """Logits up to a constant, which no softmax sees: log p, for probabilities."""
    import tensorflow as tf

    return tf.math.log(output + TINY) if content == "probabilities" else output


def class_loss(teacher: Any, student: Any, temperature: float) -> Any:
    """T² · KL(softmax(z_t / T) ‖ softmax(z_s / T)) of logits (…, classes): a mean over examples, pixels or tokens.

    Hinton, Vinyals & Dean 2015, "Distilling the knowledge in a neural network", arXiv:1503.02531, §2 and eq. 1; the
    factor keeps the gradient's size the same at every T (eq. 4).
    """
    import tensorflow as tf

    wanted = tf.nn.log_softmax(teacher / temperature)
    given = tf.nn.log_softmax(student / temperature)
    divergence = tf.reduce_sum(tf.exp(wanted) * (wanted - given), axis=-1)
    return temperature**2 * tf.reduce_mean(divergence)


def value_loss(teacher: Any, student: Any) -> Any:
    """Mean squared difference of values (regression, reconstruction)."""
    import tensorflow as tf

    return tf.reduce_mean(tf.square(teacher - student))


def feature_loss(teacher: Any, student: Any) -> Any:
    """½ ‖u_h − r(v_g)‖² of one layer (Romero et al. 2015, "FitNets", arXiv:1412.6550, eq. 3), as a mean over values.

    student: behind its regressor, of the teacher's shape. Divided by the teacher's mean square, so that layers of any
    scale weigh alike.
    """
    import tensorflow as tf

    scale = tf.reduce_mean(tf.square(teacher)) + TINY
    return 0.5 * tf.reduce_mean(tf.square(teacher - student)) / scale


def attention_loss(teacher: Any, student: Any) -> Any:
    """½ (Q_s/‖Q_s‖₂ − Q_t/‖Q_t‖₂)² as a mean over positions; Q = Σ over channels of squares. Shapes (b, …, channels).

    Zagoruyko & Komodakis 2017, "Paying more attention to attention", arXiv:1612.03928, eq. 2 with p = 2, squared and
    averaged as in the authors' code (a norm has no gradient where teacher and student agree).
    """
    import tensorflow as tf

    def attention_map(features: Any) -> Any:
        squares = tf.reduce_sum(tf.square(features), axis=-1)
        return tf.math.l2_normalize(tf.reshape(squares, [tf.shape(squares)[0], -1]), axis=-1)

    return 0.5 * tf.reduce_mean(tf.square(attention_map(teacher) - attention_map(student)))
