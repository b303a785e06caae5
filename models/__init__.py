"""Architectures, one family a file, and loading of Keras files.

`FAMILIES` is the one list where a new family adds its line. A family is a pydantic section (its type is the selector)
with a `build` method; nothing here imports TensorFlow until a model is built.
"""

from __future__ import annotations

from typing import Annotated, TypeAlias, get_args

from pydantic import Discriminator

from edgedl.models.alexnet import AlexNet
from edgedl.models.autoencoder import Autoencoder
from edgedl.models.base import Family, Head, KerasModel, LoadOptions, ModelFileSection
from edgedl.models.cnn import Cnn
from edgedl.models.ddpm import Ddpm
from edgedl.models.ds_cnn import DsCnn
from edgedl.models.efficientnet_lite import EfficientNetLite
from edgedl.models.gan import Gan
from edgedl.models.lenet import LeNet
from edgedl.models.mamba import Mamba
from edgedl.models.mlp import Mlp
from edgedl.models.mobilenet_v1 import MobileNetV1
from edgedl.models.mobilenet_v2 import MobileNetV2
from edgedl.models.mobilenet_v3 import MobileNetV3
from edgedl.models.policy_value import PolicyValue
from edgedl.models.recurrent import Recurrent
from edgedl.models.resnet import ResNet
from edgedl.models.transfer import TransferSection
from edgedl.models.transformer import TransformerDecoder, TransformerEncoder, VitTiny
from edgedl.models.unet import UNet
from edgedl.models.vae import Vae
from edgedl.models.vgg import Vgg

_Families: TypeAlias = (
    Mlp
    | Cnn
    | LeNet
    | AlexNet
    | Vgg
    | ResNet
    | MobileNetV1
    | MobileNetV2
    | MobileNetV3
    | EfficientNetLite
    | DsCnn
    | UNet
    | Recurrent
    | TransformerEncoder
    | TransformerDecoder
    | VitTiny
    | Mamba
    | Autoencoder
    | Vae
    | Gan
    | Ddpm
    | PolicyValue
)

FAMILIES: tuple[type[Family], ...] = get_args(_Families)

FamilyConfig: TypeAlias = Annotated[_Families, Discriminator("family")]

__all__ = [
    "AlexNet",
    "Autoencoder",
    "Cnn",
    "Ddpm",
    "DsCnn",
    "EfficientNetLite",
    "FAMILIES",
    "Family",
    "FamilyConfig",
    "Gan",
    "Head",
    "KerasModel",
    "LeNet",
    "LoadOptions",
    "Mamba",
    "Mlp",
    "MobileNetV1",
    "MobileNetV2",
    "MobileNetV3",
    "ModelFileSection",
    "PolicyValue",
    "Recurrent",
    "ResNet",
    "TransferSection",
    "TransformerDecoder",
    "TransformerEncoder",
    "UNet",
    "Vae",
    "Vgg",
    "VitTiny",
]
