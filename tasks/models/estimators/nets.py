"""Multi-task nets in Keras, one trunk with a genre head and a popularity head: the study's and a better one.

They are trained by Keras, and predict without it (`stored_net.py`). This is the only module that imports TensorFlow. It
does so inside functions, because the import takes seconds.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tasks.models.estimators.stored_net import StoredNet
from tasks.models.rows import Rows, StoredRows, chunks_of

HEADS = ("genre", "popularity")


@dataclass(frozen=True, slots=True)
class History:
    """The training and validation loss of one epoch, by the net's own loss function."""

    member: int  # which net of a model that trains several, one after the other; counted from 1, as epochs are
    epoch: int
    loss: float  # mean over the batches, with dropout
    val_loss: float


@dataclass(kw_only=True)
class TwoHeadedNet:
    """The base class of the nets. Their loss is cross-entropy + popularity_weight x MSE of (points - origin) / unit.

    A net with only one of the two heads is the single-task control. Its loss is that head's alone.
    """

    popularity_weight: float
    batch_size: int
    epochs: int
    stop_patience: int
    seed: int
    threads: int
    heads: tuple[str, ...] = HEADS
    history: list[History] = field(default_factory=list, init=False, repr=False)
    origin: float = field(default=0.0, init=False)
    unit: float = field(default=100.0, init=False)
    _trained: Any = field(default=None, init=False, repr=False)  # Keras's model, which is saved
    _net: StoredNet = field(default_factory=lambda: StoredNet({}, {}), init=False, repr=False)  # what predicts

    def predict(self, x: np.ndarray) -> Any:
        """Predicts genre codes and popularity points.

        Args: x: shape (n_rows, n_features).

        Returns: arrays of shape (n_rows,) by head; for a net with one head, that head's array.
        """
        outputs = self.outputs(x)
        predicted = {head: values.argmax(axis=1) if head == "genre" else values for head, values in outputs.items()}
        return predicted if len(self.heads) > 1 else predicted[self.heads[0]]

    def predict_proba(self, x: np.ndarray) -> np.ndarray:
        """Each genre's probability, (n_rows, n_classes), by code. Args: x: (n_rows, n_features)."""
        return self.outputs(x)["genre"]

    def outputs(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Predicts all heads in one pass. Args: x: shape (n_rows, n_features).

        Returns: by head: genre probabilities (n_rows, n_classes), popularity points (n_rows,).
        """
        found = self._net.outputs(x.astype(np.float32), self.threads)
        return {head: values if head == "genre" else values[:, 0].astype(np.float64) for head, values in found.items()}

    def save(self, path: Path) -> None:
        """Writes the net in Keras's own format; its outputs are probabilities and popularity points."""
        self._trained.save(path)

    def load(self, path: Path) -> None:
        """Loads a net that `save` wrote, instead of fitting one."""
        self._net = StoredNet.load(path)

    def _keep(self, keras: Any, n_features: int, net: Any) -> None:
        """Keeps a trained net: its outputs are then probabilities and popularity points."""
        inputs = keras.Input(shape=(n_features,))
        outputs = dict(net(inputs))
        if "popularity" in outputs:
            outputs["popularity"] = keras.layers.Rescaling(self.unit, offset=self.origin)(outputs["popularity"])
        self._trained = keras.Model(inputs, outputs)
        self._net = StoredNet.of(self._trained)

    def tensors(self, tf: Any, x: np.ndarray, truth: dict[str, np.ndarray]) -> tuple[Any, dict[str, Any]]:
        """Returns the rows and the targets by head as tensors; popularity is scaled by origin and unit."""
        return tf.constant(x, tf.float32), {
            head: tf.constant(y, tf.int32)
            if head == "genre"
            else tf.constant((y - self.origin) / self.unit, tf.float32)
            for head, y in truth.items()
        }

    def _loss(self, tf: Any, outputs: dict[str, Any], truth: dict[str, Any]) -> Any:
        losses = []
        if "genre" in self.heads:
            cross_entropy = tf.keras.losses.sparse_categorical_crossentropy(truth["genre"], outputs["genre"])
            losses.append(tf.reduce_mean(cross_entropy))
        if "popularity" in self.heads:
            squared_error = tf.square(outputs["popularity"][:, 0] - truth["popularity"])
            losses.append(self.popularity_weight * tf.reduce_mean(squared_error))
        return tf.add_n(losses)


@dataclass(kw_only=True)
class MultitaskNet(TwoHeadedNet):
    """12 -> shared Dense layers with BatchNorm and Dropout -> softmax over genres, and a sigmoid for popularity/100.

    Training uses Adam. The validation loss decides about early stopping and about lower learning rates.
    Source: the published study; settings in tasks/models/multitask.py.
    """

    shared_units: tuple[int, ...]
    head_units: int
    shared_dropout: float
    head_dropout: float
    learning_rate: float
    plateau_patience: int
    plateau_factor: float

    def fit(self, x: dict[str, Rows], *targets: dict[str, Rows]) -> None:
        """Trains on split `train`, with early stopping on split `val`.

        One graph runs all Adam steps of an epoch, because Keras's `fit` spends a third of its time between batches.
        Keras's callbacks are used as in its `fit`.

        Args: x: by split, shape (n_rows, n_features). targets: by split, one for each head: genre (n_rows,), codes
            from 0; popularity (n_rows,), 0 to 100. Split `train` may be on disk. Each epoch then reads it in parts
            and shuffles each part.
        """
        tf = _tensorflow(self.threads)
        keras = tf.keras
        keras.utils.set_random_seed(self.seed)
        by_head = dict(zip(self.heads, targets, strict=True))
        net = self._build(keras, _n_features(x["train"]), _n_classes(by_head))
        parts = _Parts(self, tf, x["train"], {head: y["train"] for head, y in by_head.items()})
        validation = self.tensors(tf, x["val"][:], {head: y["val"][:] for head, y in by_head.items()})

        @tf.function
        def run_epoch(order: Any, part: Any) -> Any:
            total = 0.0
            for start in tf.range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                rows, truth = _rows(tf, part, batch)
                with tf.GradientTape() as tape:
                    value = self._loss(tf, net(rows, training=True), truth)
                gradients = tape.gradient(value, net.trainable_variables)
                net.optimizer.apply(gradients, net.trainable_variables)
                total += value * tf.cast(len(batch), tf.float32)
            return total / tf.cast(len(order), tf.float32)

        @tf.function
        def validation_loss() -> Any:
            rows, truth = validation
            return self._loss(tf, net(rows, training=False), truth)

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
            loss = parts.mean_of(run_epoch)
            val_loss = float(validation_loss())
            self.history.append(History(1, epoch + 1, loss, val_loss))
            callbacks.on_epoch_end(epoch, {"val_loss": val_loss})
            if net.stop_training:
                break
        callbacks.on_train_end()
        self._keep(keras, _n_features(x["train"]), net)

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


@dataclass(kw_only=True)
class EncodedNet(TwoHeadedNet):
    """Piecewise-linear encodings -> nets that share all but their first and last layers, averaged.

    Each feature becomes `bins` numbers, one per quantile bin of the training rows: -1 below the bin, 1 above it, linear
    within. Features with few values, like the key, get a number for each step between them. Each member has a first
    Dense layer and output layers of its own; the Dense layers between them, and one for each head, are shared. The loss
    is the mean of the members' losses; the prediction is the mean of theirs.
    Training uses AdamW with a cosine learning rate. A moving average of the weights is validated after each epoch, and
    the average of the best epoch is kept.
    Source: Gorishniy et al. (2022), "On Embeddings for Numerical Features in Tabular Deep Learning"; Gorishniy et al.
    (2025), "TabM: Advancing Tabular Deep Learning with Parameter-Efficient Ensembling".
    """

    members: int
    bins: int
    width: int
    depth: int  # Dense layers before those of the heads
    head_units: int
    dropout: float
    learning_rate: float
    weight_decay: float
    momentum: float  # of the moving average, per step

    def fit(self, x: dict[str, Rows], *targets: dict[str, Rows]) -> None:
        """Trains on split `train`, with early stopping on split `val`. Args: as MultitaskNet.fit."""
        tf = _tensorflow(self.threads)
        tf.keras.utils.set_random_seed(self.seed)
        by_head = dict(zip(self.heads, targets, strict=True))
        if "popularity" in by_head:
            points = _first_chunk(by_head["popularity"]["train"])
            self.origin, self.unit = float(points.mean()), float(points.std()) or 1.0
        parts = _Parts(self, tf, x["train"], {head: y["train"] for head, y in by_head.items()})
        validation = self.tensors(tf, x["val"][:], {head: y["val"][:] for head, y in by_head.items()})
        n_classes = _n_classes(by_head)
        net, average = (
            self._build(tf.keras, _first_chunk(parts.x), n_classes, is_averaged=one) for one in (False, True)
        )
        average.set_weights(net.get_weights())
        steps = self.epochs * -(-len(parts.x) // self.batch_size)
        rate = tf.keras.optimizers.schedules.CosineDecay(
            0.05 * self.learning_rate,
            steps,
            alpha=0.02,
            warmup_target=self.learning_rate,
            warmup_steps=steps // 20,
        )
        optimizer = tf.keras.optimizers.AdamW(rate, weight_decay=self.weight_decay)
        optimizer.build(net.trainable_variables)

        def loss_of_members(rows: Any, truth: dict[str, Any]) -> Any:
            found = net(rows, training=True)
            outputs = {head: tf.reshape(values, (-1, values.shape[-1])) for head, values in found.items()}
            return self._loss(tf, outputs, {head: tf.repeat(y, self.members) for head, y in truth.items()})

        @tf.function
        def run_epoch(order: Any, part: Any) -> Any:
            total = 0.0
            for start in tf.range(0, len(order), self.batch_size):
                batch = order[start : start + self.batch_size]
                with tf.GradientTape() as tape:
                    value = loss_of_members(*_rows(tf, part, batch))
                optimizer.apply(tape.gradient(value, net.trainable_variables), net.trainable_variables)
                step = tf.cast(optimizer.iterations, tf.float32)
                share = tf.maximum(1.0 - self.momentum, 9.0 / (10.0 + step))  # early weights soon lose their influence
                for mean, weights in zip(average.trainable_variables, net.trainable_variables, strict=True):
                    mean.assign_add(share * (weights - mean))
                total += value * tf.cast(len(batch), tf.float32)
            return total / tf.cast(len(order), tf.float32)

        @tf.function
        def validation_loss() -> Any:
            rows, truth = validation
            return self._loss(tf, average(rows, training=False), truth)

        best, best_epoch, weights = np.inf, 0, average.get_weights()
        for epoch in range(self.epochs):
            loss = parts.mean_of(run_epoch)
            val_loss = float(validation_loss())
            self.history.append(History(1, epoch + 1, loss, val_loss))
            if val_loss < best:
                best, best_epoch, weights = val_loss, epoch, average.get_weights()
            if epoch - best_epoch >= self.stop_patience:
                break
        average.set_weights(weights)
        self._keep(tf.keras, _n_features(x["train"]), average)

    def _build(self, keras: Any, x: np.ndarray, n_classes: int, *, is_averaged: bool) -> Any:
        """Returns a net whose outputs are (n_rows, members, n_outputs), or (n_rows, n_outputs) if it is averaged."""
        layers = keras.layers
        inputs = keras.Input(shape=(x.shape[1],))
        kernel, bias = piecewise_linear(x, self.bins)
        encode = layers.Dense(len(bias), trainable=False)
        shared = layers.ReLU(max_value=2.0)(encode(inputs))
        encode.set_weights([2.0 * kernel, 2.0 * bias])
        shared = layers.Concatenate()([layers.Rescaling(1.0, -1.0)(shared), inputs])
        # The initial scale does not depend on the number of members.
        shared = layers.Dense(self.members * self.width, kernel_initializer="lecun_normal", activation="silu")(shared)
        shared = layers.Dropout(self.dropout)(layers.Reshape((self.members, self.width))(shared))
        for _ in range(self.depth - 1):
            shared = layers.Dense(self.width, activation="silu")(shared)
            shared = layers.Dropout(self.dropout)(shared)
        last = {"genre": (n_classes, "softmax"), "popularity": (1, None)}
        outputs = {}
        for head in self.heads:
            hidden = layers.Dropout(self.dropout)(layers.Dense(self.head_units, activation="silu")(shared))
            n_outputs, activation = last[head]
            own = layers.EinsumDense(
                "bmh,mho->bmo", (self.members, n_outputs), activation=activation, bias_axes="mo",
                kernel_initializer=keras.initializers.VarianceScaling(mode="fan_in"),
            )  # fmt: skip
            outputs[head] = layers.GlobalAveragePooling1D()(own(hidden)) if is_averaged else own(hidden)
        return keras.Model(inputs, outputs)


def piecewise_linear(x: np.ndarray, bins: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the linear map that encodes features piecewise linearly by their quantile bins.

    The map's result, clipped to 0..1, is the share of each bin that lies below the value.

    Args: x: shape (n_rows, n_features), the rows whose quantiles are the bins' edges.

    Returns: kernel (n_features, n_bins) and bias (n_bins,), float32. n_bins is the sum over all features, each of which
        has at most `bins`.
    """
    from scipy.linalg import block_diag

    kernels, biases = [], []
    for values in x.T:
        edges = np.unique(values)
        if len(edges) > bins + 1:
            edges = np.unique(np.quantile(values, np.linspace(0.0, 1.0, bins + 1)))
        slopes = 1.0 / np.diff(edges)
        kernels.append(slopes)
        biases.append(-edges[:-1] * slopes)
    return block_diag(*kernels).astype(np.float32), np.concatenate(biases).astype(np.float32)


def _rows(tf: Any, part: Any, chosen: Any) -> Any:
    return tf.nest.map_structure(lambda values: tf.gather(values, chosen), part)


class _Parts:
    """The training rows as tensors: one part at a time if they are on disk, else all at once."""

    def __init__(self, net: TwoHeadedNet, tf: Any, x: Rows, truth: dict[str, Rows]) -> None:
        self.x = x
        self._tf = tf
        self._chunks = chunks_of(x)
        self._random = np.random.default_rng(net.seed)
        self._net, self._truth = net, truth
        self._kept = None if isinstance(x, StoredRows) else self._read(self._chunks[0])

    def _read(self, rows: slice) -> tuple[Any, dict[str, Any]]:
        return self._net.tensors(self._tf, self.x[rows], {head: y[rows] for head, y in self._truth.items()})

    def mean_of(self, run: Any) -> float:
        """Calls `run(order, part)` for each part, rows and parts in random order. Returns: the mean over all rows."""
        found, weights = [], []
        for place in self._random.permutation(len(self._chunks)):
            part = self._kept or self._read(self._chunks[place])
            n_rows = len(part[0])
            found.append(float(run(self._tf.random.shuffle(self._tf.range(n_rows)), part)))
            weights.append(n_rows)
        return float(np.average(found, weights=weights))


def _first_chunk(rows: Rows) -> np.ndarray:
    """Returns all rows in memory, or the first of those on disk: these are in random order, except appended tracks."""
    return rows[chunks_of(rows)[0]]


def _n_features(x: Rows) -> int:
    return int(x[:1].shape[1])


def _n_classes(by_head: dict[str, dict[str, Rows]]) -> int:
    codes = by_head.get("genre", {}).values()
    return max((int(part[rows].max()) for part in codes for rows in chunks_of(part)), default=0) + 1


def _tensorflow(threads: int) -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    import tensorflow as tf

    with suppress(RuntimeError):  # the threads cannot change once TensorFlow was used
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    return tf
