"""Transformers (Vaswani et al. 2017, arXiv:1706.03762): an encoder like BERT, a decoder like GPT, and ViT.

Blocks normalise before attention and feed-forward (as GPT-2 and ViT do), which trains without a warm-up.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, PositiveInt

from edgedl.core.contract import Task
from edgedl.core.errors import ModelError
from edgedl.models.base import Family, Head, KerasModel, KerasTensor
from edgedl.models.blocks import require_image


class _Transformer(Family):
    """The settings that all three share."""

    width: PositiveInt = Field(default=64, description="Channels d_model; a multiple of `heads`.")
    layers: PositiveInt = Field(default=2, description="Number of blocks.")
    heads: PositiveInt = Field(default=4, description="Attention heads.")
    feed_forward: PositiveInt = Field(default=4, description="Channels of the feed-forward part, in d_model's.")
    dropout: float = Field(default=0.1, ge=0.0, lt=1.0, description="Dropout in each block, during training.")

    def _blocks(self, x: KerasTensor, *, causal: bool) -> KerasTensor:
        """All blocks and the last normalisation: (b, t, width) → (b, t, width)."""
        from edgedl.models.layers.attention import LayerNorm

        if self.width % self.heads:
            raise ModelError(
                f"family {self.family} cannot be built so",
                required="a width that is a multiple of heads",
                received=f"width {self.width}, heads {self.heads}",
            )
        for i in range(1, self.layers + 1):
            x = self._block(x, causal, f"block{i}")
        return LayerNorm(name="norm")(x)

    def _block(self, x: KerasTensor, causal: bool, name: str) -> KerasTensor:
        from tf_keras import layers

        from edgedl.models.layers.attention import Attention, Gelu, LayerNorm

        y = LayerNorm(name=f"{name}_attention_norm")(x)
        parts = [layers.Dense(self.width, name=f"{name}_{part}")(y) for part in ("query", "key", "value")]
        y = Attention(self.heads, causal, name=f"{name}_attention")(parts)
        y = layers.Dense(self.width, name=f"{name}_projection")(y)
        x = layers.Add(name=f"{name}_attention_add")([x, self._drop(y, f"{name}_attention")])
        y = LayerNorm(name=f"{name}_feed_norm")(x)
        y = layers.Dense(self.feed_forward * self.width, name=f"{name}_feed1")(y)
        y = layers.Dense(self.width, name=f"{name}_feed2")(Gelu(name=f"{name}_gelu")(y))
        return layers.Add(name=f"{name}_feed_add")([x, self._drop(y, f"{name}_feed")])

    def _drop(self, x: KerasTensor, name: str) -> KerasTensor:
        from tf_keras import layers

        return layers.Dropout(self.dropout, name=f"{name}_dropout")(x) if self.dropout else x


def embed_sequence(family: Any, input_name: str, shape: tuple[int, ...], vocabulary: int | None) -> tuple[Any, Any]:
    """Input and its embedding (b, t, family.width): of tokens (t,), or of values (t, channels).

    Raises ModelError for other shapes, and for tokens without a vocabulary.
    """
    import tf_keras
    from tf_keras import layers

    if len(shape) == 1 and vocabulary:
        inputs = tf_keras.Input(shape, name=input_name, dtype="int32")
        return inputs, layers.Embedding(vocabulary, family.width, name="embedding")(inputs)
    if len(shape) == 2:
        inputs = tf_keras.Input(shape, name=input_name)
        return inputs, layers.Dense(family.width, name="embedding")(inputs)
    raise ModelError(
        f"family {family.family} cannot take this data",
        required="sequences: tokens of shape (time,) with `vocabulary`, or values of shape (time, channels)",
        received=f"shape {shape}" + ("" if vocabulary or len(shape) != 1 else " and no vocabulary"),
    )


class TransformerEncoder(_Transformer):
    """BERT-like (Devlin et al. 2018, arXiv:1810.04805): (b, t) tokens or (b, t, c) values → (b, units)."""

    family: Literal["transformer-encoder"] = "transformer-encoder"
    vocabulary: PositiveInt | None = Field(default=None, description="Number of tokens, for data of tokens.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, t[, c]) → (b, t, width) through all blocks → average (b, width) → (b, units)."""
        import tf_keras
        from tf_keras import layers

        from edgedl.models.layers.attention import PositionEmbedding

        inputs, x = embed_sequence(self, input_name, input_shape, self.vocabulary)
        x = self._blocks(PositionEmbedding(name="positions")(x), causal=False)
        x = layers.GlobalAveragePooling1D(name="average")(x)
        return tf_keras.Model(inputs, head.attach(x), name="transformer_encoder")


class TransformerDecoder(_Transformer):
    """GPT-like (Radford et al. 2018, 2019): (b, t) tokens → (b, t, units) logits of the next one."""

    family: Literal["transformer-decoder"] = "transformer-decoder"

    tasks: ClassVar[tuple[Task, ...]] = ("next-token",)

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, t) → (b, t, width) through all blocks, each position seeing those before it → (b, t, units)."""
        import tf_keras

        from edgedl.models.layers.attention import PositionEmbedding

        inputs, x = embed_sequence(self, input_name, input_shape, head.units)
        x = self._blocks(PositionEmbedding(name="positions")(x), causal=True)
        return tf_keras.Model(inputs, head.attach_tokens(x), name="transformer_decoder")


class VitTiny(_Transformer):
    """Vision transformer (Dosovitskiy et al. 2020, arXiv:2010.11929), ViT-Ti size: (b, h, w, c) → (b, units)."""

    family: Literal["vit-tiny"] = "vit-tiny"
    width: PositiveInt = Field(default=192, description="Channels d_model; a multiple of `heads`.")
    layers: PositiveInt = Field(default=12, description="Number of blocks.")
    heads: PositiveInt = Field(default=3, description="Attention heads.")
    patch: PositiveInt = Field(default=16, description="Side of a patch; divides the image's sides.")

    def build(self, input_name: str, input_shape: tuple[int, ...], head: Head) -> KerasModel:
        """Shapes: (b, h, w, c) → patches (b, h·w/patch², width) through all blocks → average → (b, units)."""
        import tf_keras
        from tf_keras import layers

        from edgedl.models.layers.attention import PositionEmbedding

        require_image(input_shape, smallest=self.patch, family="vit-tiny")
        if any(side % self.patch for side in input_shape[:2]):
            raise ModelError(
                "family vit-tiny cannot take this data",
                required=f"sides that are multiples of the patch, {self.patch}",
                received=f"shape {input_shape}",
                advice="Set another `patch`",
            )
        inputs = tf_keras.Input(input_shape, name=input_name)
        x = layers.Conv2D(self.width, self.patch, strides=self.patch, name="patches")(inputs)
        x = layers.Reshape((x.shape[1] * x.shape[2], self.width), name="sequence")(x)
        x = self._blocks(PositionEmbedding(name="positions")(x), causal=False)
        x = layers.GlobalAveragePooling1D(name="average")(x)
        return tf_keras.Model(inputs, head.attach(x), name="vit_tiny")
