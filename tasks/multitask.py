"""Multi-task nets in Keras, one trunk with a genre head and a popularity head: the study's, and a better one.

The only module that imports TensorFlow, and only inside functions: the import takes seconds.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np


HEADS = ("genre", "popularity")


@dataclass(kw_only=True)
class MultitaskNet:
    """12 -> shared Dense layers with BatchNorm and Dropout -> softmax over genres, and a sigmoid for popularity/100.

    Loss: cross-entropy + popularity_weight x MSE; Adam, early stopping and a falling learning rate on validation loss.
    With one of the two heads it is the single-task control: the loss is then that head's alone.
    Source: the published study; settings in tasks/models.py.
    """

    heads: tuple[str, ...] = HEADS
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

    def fit(self, x: dict[str, np.ndarray], *targets: dict[str, np.ndarray]) -> None:
        """Train on split `train`, watching split `val`.

        One graph runs a whole epoch of Adam steps: Keras's own `fit` spends a third of its time between batches. Its
        callbacks decide as they do there.

        Args: by split: x (n_rows, n_features); of each head: genre (n_rows,) codes from 0; popularity (n_rows,) 0 to
            100.
        """
        tf = _tensorflow(self.threads)
        keras = tf.keras
        keras.utils.set_random_seed(self.seed)
        by_head = dict(zip(self.heads, targets, strict=True))
        classes = _n_classes(by_head)
        net = self._net = self._build(keras, x["train"].shape[1], classes)
        rows = {split: tf.constant(x[split], tf.float32) for split in ("train", "val")}
        truths = {
            split: {
                head: tf.constant(*((y[split], tf.int32) if head == "genre" else (y[split] / 100.0, tf.float32)))
                for head, y in by_head.items()
            }
            for split in ("train", "val")
        }

        def loss(inputs: Any, truth: Any, *, training: bool) -> Any:
            outputs = net(inputs, training=training)
            losses = {}
            if "genre" in self.heads:
                cross_entropy = keras.losses.sparse_categorical_crossentropy(truth["genre"], outputs["genre"])
                losses["genre"] = tf.reduce_mean(cross_entropy)
            if "popularity" in self.heads:
                squared_error = tf.square(outputs["popularity"][:, 0] - truth["popularity"])
                losses["popularity"] = self.popularity_weight * tf.reduce_mean(squared_error)
            return tf.add_n(list(losses.values()))

        @tf.function
        def run_epoch(order: Any) -> None:
            for start in tf.range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                inputs, truth = tf.nest.map_structure(
                    lambda values: tf.gather(values, batch), (rows["train"], truths["train"])  # noqa: B023
                )
                with tf.GradientTape() as tape:
                    value = loss(inputs, truth, training=True)
                gradients = tape.gradient(value, net.trainable_variables)
                net.optimizer.apply(gradients, net.trainable_variables)

        @tf.function
        def validation_loss() -> Any:
            return loss(rows["val"], truths["val"], training=False)

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

    def predict(self, x: np.ndarray) -> Any:
        """Predict each head's target: genre codes, popularity, (n_rows,) each. Args: x: (n_rows, n_features).

        Returns: by head; of a net with one head, that head's array, as other single-task estimators do.
        """
        outputs = self._outputs(x)
        predicted = {
            head: values.argmax(axis=1) if head == "genre" else values[:, 0].astype(np.float64) * 100.0
            for head, values in outputs.items()
        }
        return predicted if len(self.heads) > 1 else predicted[self.heads[0]]

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Each genre's probability, (n_rows, n_classes), by code. Args: x: (n_rows, n_features)."""
        return self._outputs(x)["genre"]

    def _outputs(self, x: np.ndarray) -> dict[str, np.ndarray]:
        return self._net.predict(x.astype(np.float32), batch_size=4096, verbose=0)

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
        for name in self.heads:
            hidden = layers.Dense(self.head_units, activation="relu")(shared)
            heads[name] = layers.Dropout(self.head_dropout)(hidden)
        last = {"genre": (classes, "softmax"), "popularity": (1, "sigmoid")}
        outputs = {
            name: layers.Dense(last[name][0], activation=last[name][1], name=name)(hidden)
            for name, hidden in heads.items()
        }
        net = keras.Model(inputs, outputs)
        net.compile(optimizer=keras.optimizers.Adam(self.learning_rate))
        net.optimizer.build(net.trainable_variables)
        return net


def _n_classes(by_head: dict[str, dict[str, np.ndarray]]) -> int:
    return int(max((codes.max() for codes in by_head.get("genre", {}).values()), default=0)) + 1


def _tensorflow(threads: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(threads)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf
