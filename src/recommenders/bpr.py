"""Pairwise training in TensorFlow: one step for VBPR and for AMR.

Rendle et al., "BPR", UAI 2009; He and McAuley, "VBPR", AAAI 2016; Tang et al., "Adversarial training
towards robust multimedia recommender system" (AMR), TKDE 2020.

What makes an epoch fast changes no result: only the batch's rows of P and Q are gathered and updated
(under Adagrad a row without gradient does not move, so this *is* the dense update); features are
projected once for each triple, as the difference f_i - f_j; and a whole epoch is one graph.
"""

import functools
import os

import numpy as np

from src.artifacts.errors import UserError
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.quiet_tensorflow import tf
from src.recommenders.scores import latent_and_visual
from src.recommenders.weights import TABLES, Weights


class PairwiseTrainer(tf.Module):
    """Tables and accumulators on the device, and the compiled epoch that trains them.

    It is built once for each combination of shapes and hyperparameters (``trainer_for``) and serves
    many trainings: ``load`` weights, run ``epoch`` after epoch, ``save`` them.
    """

    def __init__(
        self,
        shapes: tuple[tuple[int, int], ...],
        hyperparameters: Hyperparameters,
        adversary: Adversary | None,
    ) -> None:
        super().__init__()
        self.hyperparameters = hyperparameters
        self.adversary = adversary
        self.tables = {
            name: tf.Variable(tf.zeros(shape), trainable=False)
            for name, shape in zip(TABLES, shapes, strict=True)
        }
        self.accumulators = {
            name: tf.Variable(tf.zeros(shape), trainable=False)
            for name, shape in zip(TABLES, shapes, strict=True)
        }
        features = tf.TensorSpec((shapes[1][0], shapes[2][0]), tf.float32)
        triples = tf.TensorSpec((3, None), tf.int32)
        seed = tf.TensorSpec((), tf.int32)
        self._compiled_epoch = tf.function(self._epoch, input_signature=(features, triples, seed))

    def load(self, weights: Weights) -> None:
        for name in TABLES:
            self.tables[name].assign(weights.tables[name])
            self.accumulators[name].assign(weights.accumulators[name])

    def save(self, scale: float, epoch: int) -> Weights:
        """The present state, as arrays of the host."""
        return Weights(_arrays(self.tables), _arrays(self.accumulators), scale, epoch)

    def epoch(self, features: tf.Tensor, triples: np.ndarray, noise_seed: np.int32) -> float:
        """One pass over ``triples`` (3, n) int32 in batches, the last as short as it comes.

        ``features``: (items, features), scaled. ``noise_seed`` decides random perturbations and
        nothing else. Returns the sum of the batches' losses.
        """
        return float(self._compiled_epoch(features, triples, noise_seed))

    def _epoch(self, features: tf.Tensor, triples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        total = tf.zeros(())
        for start in tf.range(0, tf.shape(triples)[1], self.hyperparameters.batch):
            batch = triples[:, start : start + self.hyperparameters.batch]
            total += self._step(features, batch, tf.stack([seed, start]))
        return total

    def _step(self, features: tf.Tensor, batch: tf.Tensor, noise_seed: tf.Tensor) -> tf.Tensor:
        users, items = batch[0], tf.reshape(batch[1:], [-1])  # positives, then negatives
        user_rows, user_at = tf.unique(users)
        item_rows, item_at = tf.unique(items)
        preferred, other = tf.gather(features, batch[1]), tf.gather(features, batch[2])
        contrast = preferred - other  # f_i - f_j
        p = tf.gather(self.tables["P"], users)
        q = tf.gather(self.tables["Q"], items)
        projection = self.tables["E"].read_value()
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((p, q, projection))
            latent, visual = latent_and_visual(self.hyperparameters.form, p, tf.pad)
            margin = self._margin(latent, visual, q, tf.matmul(contrast, projection))
            loss = tf.reduce_sum(tf.math.softplus(-margin))
            if self.adversary is not None:
                if self.adversary.direction == "grad":
                    shift = self._worst_shift(margin, visual, projection, item_rows, item_at)
                else:
                    shift = self._random_shift(projection, item_rows, item_at, noise_seed)
                perturbed = margin + _row_dot(visual, shift)
                loss += self.adversary.weight * tf.reduce_sum(tf.math.softplus(-perturbed))
            loss += self._penalty(p, q, projection, preferred, other)
        p_gradient, q_gradient, projection_gradient = tape.gradient(loss, (p, q, projection))
        self._update_rows("P", user_rows, user_at, p_gradient)
        self._update_rows("Q", item_rows, item_at, q_gradient)
        tf.raw_ops.ResourceApplyAdagrad(
            var=self.tables["E"].handle,
            accum=self.accumulators["E"].handle,
            lr=self.hyperparameters.learning_rates[2],
            grad=projection_gradient,
        )
        return loss

    def _margin(
        self, latent: tf.Tensor, visual: tf.Tensor, q: tf.Tensor, projected: tf.Tensor
    ) -> tf.Tensor:
        """s_ui - s_uj of every triple; ``projected`` is (f_i - f_j) E."""
        of_positive, of_negative = tf.split(q, 2)
        if latent is visual:  # one product serves both
            return _row_dot(latent, of_positive - of_negative + projected)
        return _row_dot(latent, of_positive - of_negative) + _row_dot(visual, projected)

    def _worst_shift(
        self,
        margin: tf.Tensor,
        visual: tf.Tensor,
        projection: tf.Tensor,
        item_rows: tf.Tensor,
        item_at: tf.Tensor,
    ) -> tf.Tensor:
        """(d_i - d_j) E for every triple, where d_i is AMR's perturbation of the features of item i.

        d_i = eps * g_i / |g_i| with g_i the clean loss's gradient with respect to f_i, summed over
        the batch, and d_i constant while the loss is differentiated. Since f enters only as f E,
        g_i = h_i E' with h_i the gradient with respect to f_i E; with M = E' E then
        d_i E = eps * h_i M / sqrt(h_i M h_i'), and nothing as wide as the features is ever built.
        """
        pull = tf.stop_gradient(-tf.sigmoid(-margin)[:, None] * visual)
        pulls = tf.concat([pull, -pull], 0)
        h = tf.math.unsorted_segment_sum(pulls, item_at, tf.size(item_rows))
        gram = tf.matmul(tf.stop_gradient(projection), projection, transpose_a=True)
        norm = tf.sqrt(tf.nn.relu(_row_dot(h, tf.matmul(h, gram))))
        unit = tf.stop_gradient(tf.math.divide_no_nan(h, norm[:, None]))
        of_positive, of_negative = tf.split(tf.gather(unit, item_at), 2)
        return self.adversary.epsilon * tf.matmul(of_positive - of_negative, gram)

    def _random_shift(
        self,
        projection: tf.Tensor,
        item_rows: tf.Tensor,
        item_at: tf.Tensor,
        noise_seed: tf.Tensor,
    ) -> tf.Tensor:
        """The same for perturbations of norm eps in directions that are uniform over the sphere."""
        shape = (tf.size(item_rows), projection.shape[0])
        noise = tf.random.stateless_normal(shape, noise_seed)
        unit = tf.math.l2_normalize(noise, axis=1)
        of_positive, of_negative = tf.split(tf.gather(tf.matmul(unit, projection), item_at), 2)
        return self.adversary.epsilon * (of_positive - of_negative)

    def _penalty(
        self,
        p: tf.Tensor,
        q: tf.Tensor,
        projection: tf.Tensor,
        preferred: tf.Tensor,
        other: tf.Tensor,
    ) -> tf.Tensor:
        """The regulariser of one batch, over every occurrence of a row."""
        of_p, of_q, of_projection = self.hyperparameters.penalties
        if self.hyperparameters.regulariser == "squared":
            penalty = of_p * tf.nn.l2_loss(p) + of_q * tf.nn.l2_loss(q)
            return penalty + of_projection * tf.nn.l2_loss(projection) if of_projection else penalty
        # The sums of entries as published; those of f_i E are (sum of f_i) . (row sums of E).
        feature_sum = tf.reduce_sum(preferred + other, 0)
        row_sums = tf.reduce_sum(projection, 1)
        items = tf.reduce_sum(q) + tf.tensordot(feature_sum, row_sums, 1)
        return of_p * tf.reduce_sum(p) + of_q * items + of_projection * tf.reduce_sum(row_sums)

    def _update_rows(self, name: str, rows: tf.Tensor, at: tf.Tensor, gradient: tf.Tensor) -> None:
        """Adagrad on the distinct ``rows``; ``gradient`` has one row for each occurrence.

        Gather, compute, scatter: TensorFlow's own sparse Adagrad does the same more slowly.
        """
        learning_rate = self.hyperparameters.learning_rates[TABLES.index(name)]
        summed = tf.math.unsorted_segment_sum(gradient, at, tf.size(rows))
        accumulated = tf.gather(self.accumulators[name], rows) + tf.square(summed)
        tf.raw_ops.ResourceScatterUpdate(
            resource=self.accumulators[name].handle, indices=rows, updates=accumulated
        )
        tf.raw_ops.ResourceScatterSub(
            resource=self.tables[name].handle,
            indices=rows,
            updates=learning_rate * summed * tf.math.rsqrt(accumulated),
        )


@functools.lru_cache(maxsize=4)
def trainer_for(
    shapes: tuple[tuple[int, int], ...],
    hyperparameters: Hyperparameters,
    adversary: Adversary | None,
    device: str,
) -> PairwiseTrainer:
    """The trainer for these shapes; tracing its graph takes longer than many a short training."""
    with tf.device(device):
        return PairwiseTrainer(shapes, hyperparameters, adversary)


def features_on(device: str, features: np.ndarray) -> tf.Tensor:
    with tf.device(device):
        return tf.constant(features)


@functools.cache
def select_device(gpu: int) -> str:
    """The TensorFlow device for ``--gpu``: -1 is the CPU, as is any number where there is no GPU."""
    if gpu < 0:
        os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # before TensorFlow looks for devices
        return "/CPU:0"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        print("TensorFlow sees no CUDA device: using the CPU")
        return "/CPU:0"
    if gpu >= len(gpus):
        raise UserError(f"--gpu {gpu}: the machine has GPUs 0 to {len(gpus) - 1}")
    tf.config.set_visible_devices(gpus[gpu], "GPU")
    tf.config.experimental.set_memory_growth(gpus[gpu], True)
    return "/GPU:0"


def _row_dot(a: tf.Tensor, b: tf.Tensor) -> tf.Tensor:
    return tf.reduce_sum(a * b, 1)


def _arrays(variables: dict[str, tf.Variable]) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in variables.items()}
