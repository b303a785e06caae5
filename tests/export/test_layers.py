import pytest

from edgedl.export.layers import layer_of

# Names as converters wrote them into published models (MLPerf Tiny, MLTK, micro wake word) and this project's exports.
NAMES = [
    ("functional_1/activation/Relu;functional_1/dense/BiasAdd", "dense"),
    (
        "model/activation/Relu;model/batch_normalization/FusedBatchNormV3;model/conv2d/BiasAdd/ReadVariableOp/resource;"
        "model/conv2d/BiasAdd;model/conv2d_2/Conv2D;model/conv2d/Conv2D1",
        "conv2d",
    ),
    (
        "functional_1/activation_1/Relu;functional_1/batch_normalization_1/FusedBatchNormV3;"
        "functional_1/depthwise_conv2d/depthwise;functional_1/depthwise_conv2d/BiasAdd;functional_1/conv2d_4/Conv2D;"
        "functional_1/depthwise_conv2d/BiasAdd/ReadVariableOp/resource1",
        "depthwise_conv2d",
    ),
    (
        "model/activation_1/Relu;model/batch_normalization/FusedBatchNormV3;model/conv2d_4/Conv2D;"
        "model/conv2d_1/Conv2D",
        "conv2d_1",
    ),
    ("model/activation_4/Relu;model/add_1/add", "add_1"),
    ("model/average_pooling2d/AvgPool", "average_pooling2d"),
    ("model/flatten/Reshape", "flatten"),
    ("model/tf.expand_dims/ExpandDims1", "tf.expand_dims"),
    ("model/stream_1/concat/ReadVariableOp", "stream_1"),
    ("magic_wand/dense/MatMul;magic_wand/dense/Relu;magic_wand/dense/BiasAdd", "dense"),
    ("net/sep/separable_conv2d/depthwise1", "sep"),
    ("net/sep/separable_conv2d1", "sep"),
    ("net/up/conv2d_transpose1", "up"),
    ("rnn/head/d1/MatMul;rnn/head/d1/Relu", "head/d1"),
    ("rnn/lstm/PartitionedCall/transpose", "lstm"),
    ("StatefulPartitionedCall/net/stem/Conv2D", "stem"),
    ("net/stem_conv/Conv2D__6", "stem_conv"),
    ("net/stem_relu/Relu:0_QuantizeLinear", "stem_relu"),
    ("StatefulPartitionedCall:01", None),
    ("Identity_int8", None),
    ("tfl.quantize", None),
    ("arith.constant4", None),
    ("", None),
]


@pytest.mark.parametrize(("name", "layer"), NAMES)
def test_layer_from_a_name_alone(name: str, layer: str | None):
    assert layer_of(name) == layer


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("rnn/head/d1/MatMul;rnn/head/d1/Relu", "d1"),  # through a nested model
        ("net/block/1/conv/Conv2D", "block/1/conv"),  # a name with slashes
        ("net/add/add", "add"),
        (
            "model/activation/Relu;model/stream/conv2d/Conv2D",
            "stream",
        ),  # a wrapper's inner layer has no name of its own
        ("net/unheard/Conv2D", None),
        ("stream/states", "stream"),
    ],
)
def test_known_layers_decide(name: str, layer: str | None):
    assert layer_of(name, ("d1", "block/1/conv", "add", "stream", "activation")) == layer
