"""The study's multi-task net in Keras: one shared trunk, a genre head and a popularity head.

The only module that imports TensorFlow, and only inside functions: the import takes seconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(kw_only=True)
class MultitaskNet:
    """12 -> shared Dense layers with BatchNorm and Dropout -> softmax over genres, and a sigmoid for popularity/100.

    Loss: cross-entropy + popularity_weight x MSE; Adam, early stopping and a falling learning rate on validation loss.
    Source: the published study; settings in tasks/models.py.
    """

    shared_units: tuple[int, ...]
    head_units: int
    shared_dropout: float
    head_dropout: float
    learning_rate: float
    popularity_weight: float
    batch_size: int
    epochs: int
    stop_patience: int
    plateau_patience: int
    plateau_factor: float
    seed: int
    threads: int

    def fit(self, x: dict[str, np.ndarray], genre: dict[str, np.ndarray], popularity: dict[str, np.ndarray]) -> None:
        """Train on split `train`, watching split `val`.

        Args: by split: x (n_rows, n_features); genre (n_rows,) codes from 0; popularity (n_rows,) 0 to 100.
        """
        keras = _keras(self.threads)
        keras.utils.set_random_seed(self.seed)
        classes = int(max(codes.max() for codes in genre.values())) + 1
        self._net = self._build(keras, x["train"].shape[1], classes)
        inputs = {name: x[name].astype(np.float32) for name in ("train", "val")}
        targets = {
            name: {"genre": genre[name].astype(np.int32), "popularity": (popularity[name] / 100.0).astype(np.float32)}
            for name in ("train", "val")
        }
        monitor = {"monitor": "val_loss", "mode": "min"}
        self._net.fit(
            inputs["train"],
            targets["train"],
            validation_data=(inputs["val"], targets["val"]),
            validation_batch_size=4096,
            batch_size=self.batch_size,
            epochs=self.epochs,
            verbose=0,
            callbacks=[
                keras.callbacks.EarlyStopping(**monitor, patience=self.stop_patience, restore_best_weights=True),
                keras.callbacks.ReduceLROnPlateau(
                    **monitor, factor=self.plateau_factor, patience=self.plateau_patience
                ),
            ],
        )

    def predict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Both targets of each row. Args: x: (n_rows, n_features). Returns: genre codes and popularity, (n_rows,) each."""
        outputs = self._net.predict(x.astype(np.float32), batch_size=4096, verbose=0)
        return {
            "genre": outputs["genre"].argmax(axis=1),
            "popularity": outputs["popularity"][:, 0].astype(np.float64) * 100.0,
        }

    def save(self, folder: Path) -> Path:
        """Write the net in Keras's own format."""
        path = folder / "model.keras"
        self._net.save(path)
        return path

    def _build(self, keras: Any, n_features: int, classes: int) -> Any:
        layers = keras.layers
        inputs = keras.Input(shape=(n_features,))
        shared = inputs
        for units in self.shared_units:
            shared = layers.Dense(units, activation="relu")(shared)
            shared = layers.BatchNormalization()(shared)
            shared = layers.Dropout(self.shared_dropout)(shared)
        heads = {}
        for name in ("genre", "popularity"):
            hidden = layers.Dense(self.head_units, activation="relu")(shared)
            heads[name] = layers.Dropout(self.head_dropout)(hidden)
        outputs = {
            "genre": layers.Dense(classes, activation="softmax", name="genre")(heads["genre"]),
            "popularity": layers.Dense(1, activation="sigmoid", name="popularity")(heads["popularity"]),
        }
        net = keras.Model(inputs, outputs)
        net.compile(
            optimizer=keras.optimizers.Adam(self.learning_rate),
            loss={"genre": "sparse_categorical_crossentropy", "popularity": "mse"},
            loss_weights={"genre": 1.0, "popularity": self.popularity_weight},
            steps_per_execution=32,  # fewer returns to Python between batches; the arithmetic is the same
        )
        return net


def _keras(threads: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf.keras
