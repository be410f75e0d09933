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

        One graph runs a whole epoch of Adam steps: Keras's own `fit` spends a third of its time between batches. Its
        callbacks decide as they do there.

        Args: by split: x (n_rows, n_features); genre (n_rows,) codes from 0; popularity (n_rows,) 0 to 100.
        """
        tf = _tensorflow(self.threads)
        keras = tf.keras
        keras.utils.set_random_seed(self.seed)
        classes = int(max(codes.max() for codes in genre.values())) + 1
        net = self._net = self._build(keras, x["train"].shape[1], classes)
        rows, labels, shares = (
            {split: tf.constant(values[split], kind) for split in ("train", "val")}
            for values, kind in (
                (x, tf.float32),
                (genre, tf.int32),
                ({split: points / 100.0 for split, points in popularity.items()}, tf.float32),
            )
        )

        def loss(inputs: Any, genres: Any, share: Any, *, training: bool) -> Any:
            outputs = net(inputs, training=training)
            cross_entropy = keras.losses.sparse_categorical_crossentropy(genres, outputs["genre"])
            squared_error = tf.square(outputs["popularity"][:, 0] - share)
            return tf.reduce_mean(cross_entropy) + self.popularity_weight * tf.reduce_mean(squared_error)

        @tf.function
        def run_epoch(order: Any) -> None:
            for start in tf.range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                inputs, genres, share = (tf.gather(part["train"], batch) for part in (rows, labels, shares))
                with tf.GradientTape() as tape:
                    value = loss(inputs, genres, share, training=True)
                gradients = tape.gradient(value, net.trainable_variables)
                net.optimizer.apply(gradients, net.trainable_variables)

        @tf.function
        def validation_loss() -> Any:
            return loss(rows["val"], labels["val"], shares["val"], training=False)

        watched = {"monitor": "val_loss", "mode": "min"}
        callbacks = keras.callbacks.CallbackList(
            [
                keras.callbacks.EarlyStopping(**watched, patience=self.stop_patience, restore_best_weights=True),
                keras.callbacks.ReduceLROnPlateau(
                    **watched, factor=self.plateau_factor, patience=self.plateau_patience
                ),
            ],
            model=net,
        )
        net.stop_training = False
        callbacks.on_train_begin()
        for epoch in range(self.epochs):
            run_epoch(tf.random.shuffle(tf.range(len(x["train"]))))
            callbacks.on_epoch_end(epoch, {"val_loss": float(validation_loss())})
            if net.stop_training:
                break
        callbacks.on_train_end()

    def predict(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Predict both targets. Args: x: (n_rows, n_features). Returns: genre codes and popularity, (n_rows,) each."""
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
        net.compile(optimizer=keras.optimizers.Adam(self.learning_rate))
        net.optimizer.build(net.trainable_variables)
        return net


def _tensorflow(threads: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf
