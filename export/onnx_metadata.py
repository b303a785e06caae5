"""What an app must know about a model, in the `metadata_props` of an ONNX file: the contract, layers, labels, words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING

from edgedl.core.artifacts import from_json, to_json
from edgedl.core.contract import Contract
from edgedl.core.errors import InputError
from edgedl.export.metadata import as_lines, vocabulary_of

if TYPE_CHECKING:
    from onnx import ModelProto

ONNX_CONTRACT, ONNX_LAYERS, ONNX_LABELS = "edgedl.contract", "edgedl.layers", "labels"
ONNX_VOCABULARY = "vocabulary"


def embed_onnx_metadata(
    model: ModelProto,
    contract: Contract,
    *,
    name: str,
    description: str,
    layers: tuple[str, ...],
    version: str,
) -> None:
    """Put the contract, the layers and the labels (one a line) into the model's `metadata_props`, in place."""
    labels = next((one.labels for one in contract.outputs if one.labels), ())
    properties = {
        "name": name,
        "version": version,
        ONNX_CONTRACT: json.dumps(to_json(contract), ensure_ascii=False),
        ONNX_LAYERS: json.dumps(layers, ensure_ascii=False),
    }
    if labels:
        properties[ONNX_LABELS] = as_lines(labels)
    if vocabulary := vocabulary_of(contract):
        properties[ONNX_VOCABULARY] = as_lines(vocabulary)
    kept = {entry.key: entry.value for entry in model.metadata_props} | properties
    del model.metadata_props[:]
    for key, value in kept.items():
        model.metadata_props.add(key=key, value=value)
    model.doc_string = description


def read_onnx_contract(properties: Mapping[str, str]) -> tuple[Contract | None, tuple[str, ...]]:
    """Contract and layer names from an ONNX model's `metadata_props`; (None, ()) when they hold none."""
    try:
        contract = from_json(Contract, json.loads(properties[ONNX_CONTRACT]))
        return contract, tuple(str(one) for one in json.loads(properties[ONNX_LAYERS]))
    except (KeyError, ValueError, TypeError, InputError):
        return None, ()
