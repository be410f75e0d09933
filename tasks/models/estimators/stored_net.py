"""Predictions of nets that Keras trained, with NumPy: the import of TensorFlow takes longer than most predictions."""

from __future__ import annotations

import io
import json
import threading
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import ThreadpoolController

Weights = Mapping[str, list[np.ndarray]]
BLOCK_ROWS = 512  # rows that a thread predicts at once: a layer's output then stays in the processor's cache
LEAST_COLUMNS = 16  # of a matrix that BLAS multiplies
PREDICTING = threading.Lock()
UNCHANGED = ("Dropout", "InputLayer")  # kinds of layers that do nothing when a net predicts


@dataclass(frozen=True, slots=True)
class StoredNet:
    """A trained net of Keras's functional API: its layers, as Keras describes them, and their weights.

    A row's prediction depends on no other row, but for rounding: BLAS adds a row's products in another order at other
    places of a block on some processors (not on those with AVX-512).
    """

    config: dict[str, Any]
    weights: Weights  # by layer

    @classmethod
    def of(cls, model: Any) -> StoredNet:
        """Copies a model of Keras."""
        return cls(json.loads(model.to_json())["config"], dict(_weights_of(model)))

    @classmethod
    def load(cls, path: Path) -> StoredNet:
        """Reads a file in Keras's own format (.keras). Nothing in it is carried out.

        Raises: ValueError: the project's nets have no such layer or activation.
        """
        import h5py

        weights: dict[str, list[np.ndarray]] = {}

        def read(name: str, item: Any) -> None:
            if name.endswith("vars") and len(item):
                weights[item.attrs["name"]] = [item[str(number)][()] for number in range(len(item))]

        with zipfile.ZipFile(path) as parts, h5py.File(io.BytesIO(parts.read("model.weights.h5"))) as stored:
            stored.visititems(read)
            net = cls(json.loads(parts.read("config.json"))["config"], weights)
        [given] = [layer["config"] for layer in net.config["layers"] if layer["class_name"] == "InputLayer"]
        net.outputs(np.zeros((1, given["batch_shape"][1]), dtype=np.float32), threads=1)  # raises here, not later
        return net

    def outputs(self, x: np.ndarray, threads: int) -> dict[str, np.ndarray]:
        """Predicts every output. Args: x: shape (n_rows, n_features), float32.

        Returns: by name: shape (n_rows, n_outputs), float32.
        """
        blocks = [x[at : at + BLOCK_ROWS] for at in range(0, max(len(x), 1), BLOCK_ROWS)]
        # The limit is that of the whole process: who predicts meanwhile would keep it.
        with PREDICTING, _blas().limit(limits=1):
            if len(blocks) == 1:
                return self._block(x)
            with ThreadPoolExecutor(threads) as pool:
                found = list(pool.map(self._block, blocks))
        return {name: np.concatenate([block[name] for block in found]) for name in found[0]}

    def _block(self, x: np.ndarray) -> dict[str, np.ndarray]:
        with np.errstate(over="ignore"):  # e to the power of a large number is infinite, as it should be here
            return _run(self.config, self.weights, x)


@cache
def _blas() -> ThreadpoolController:
    """Returns what sets the threads of NumPy's BLAS. To find it takes longer than to predict a row."""
    return ThreadpoolController().select(user_api="blas")


def _weights_of(model: Any) -> Iterator[tuple[str, list[np.ndarray]]]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _weights_of(layer)
        else:
            yield layer.name, layer.get_weights()


def _run(config: dict[str, Any], weights: Weights, x: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the outputs of a net by name. Args: config: of a functional model."""
    done: dict[str, Any] = {}

    def output(layer: str, number: int) -> np.ndarray:
        found = done[layer]
        return found[sorted(found)[number]] if isinstance(found, dict) else found

    def given(argument: Any) -> Any:
        if isinstance(argument, list):
            return [given(one) for one in argument]
        layer, _, number = argument["config"]["keras_history"]
        return output(layer, number)

    for layer in config["layers"]:
        name, kind, settings = layer["name"], layer["class_name"], layer["config"]
        values = given(layer["inbound_nodes"][0]["args"][0]) if layer["inbound_nodes"] else x
        if kind == "Functional":
            done[name] = _run(settings, weights, values)
        else:
            done[name] = values if kind in UNCHANGED else _layer(kind, settings, weights.get(name, []), values)
    return {name: output(layer, number) for name, (layer, _, number) in config["output_layers"].items()}


def _layer(kind: str, settings: dict[str, Any], weights: list[np.ndarray], values: Any) -> np.ndarray:
    """Returns the output of a layer. Args: values: its input; for Concatenate, several.

    Raises: ValueError: the project's nets have no such layer.
    """
    found: np.ndarray
    match kind:
        case "Dense":
            kernel, bias = weights
            found = _product(values.reshape(-1, values.shape[-1]), kernel)
            found = found.reshape(*values.shape[:-1], kernel.shape[-1])
            found += bias
        case "EinsumDense" if settings["equation"] == "bmh,mho->bmo":
            kernel, bias = weights
            found = _product(values.swapaxes(0, 1), kernel).swapaxes(0, 1)
            found += bias
        case "BatchNormalization":
            scale, shift, mean, variance = weights
            scale = scale / np.sqrt(variance + np.float32(settings["epsilon"]))
            found = values * scale + (shift - mean * scale)
        case "ReLU":
            found = np.clip(values, 0.0, settings["max_value"])
        case "Rescaling":
            found = values * np.float32(settings["scale"]) + np.float32(settings["offset"])
        case "Concatenate":
            found = np.concatenate(values, axis=-1)
        case "Average":  # of the nets that models averaged until 2026-11-28
            found = sum(values[1:], values[0]) / np.float32(len(values))
        case "Reshape":
            found = values.reshape(-1, *settings["target_shape"])
        case "GlobalAveragePooling1D":
            found = np.ascontiguousarray(values).mean(axis=1)  # which adds in another order along other strides
        case _:
            raise ValueError(f"no net of the project has a layer {kind} with the settings {settings}")
    return _activated(settings.get("activation", "linear"), found)


def _product(rows: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    """Returns the product of two matrices.

    BLAS has other code for a single row and for few columns, which adds in another order. They are filled up.
    """
    n_rows, n_columns = rows.shape[-2], kernel.shape[-1]
    if n_rows == 1:
        rows = np.repeat(rows, 2, axis=-2)
    if n_columns < LEAST_COLUMNS:
        kernel = np.pad(kernel, [(0, 0)] * (kernel.ndim - 1) + [(0, LEAST_COLUMNS - n_columns)])
    return np.matmul(rows, kernel)[..., :n_rows, :n_columns]


def _activated(activation: str, values: np.ndarray) -> np.ndarray:
    """Returns the values of an activation function, by Keras's name. The given array is overwritten.

    Raises: ValueError: the project's nets have no such function.
    """
    if activation == "linear":
        return values
    if activation == "relu":
        return np.maximum(values, 0.0, out=values)
    if activation == "softmax":
        values -= values.max(axis=-1, keepdims=True)
        np.exp(values, out=values)
        values /= values.sum(axis=-1, keepdims=True)
        return values
    below = np.negative(values)
    np.exp(below, out=below)
    below += 1.0
    if activation == "silu":
        return np.divide(values, below, out=values)
    if activation == "sigmoid":
        return np.reciprocal(below, out=below)
    raise ValueError(f"no net of the project has the activation {activation}")
