"""Pairwise training in TensorFlow: one step for BPR-MF, VBPR and their adversarial forms.

Rendle et al., "BPR", UAI 2009; He and McAuley, "VBPR", AAAI 2016; He et al., "Adversarial Personalized
Ranking for Recommendation" (AMF), SIGIR 2018; Tang et al., "Adversarial training towards robust
multimedia recommender system" (AMR), TKDE 2020.

An epoch is fast for three reasons, none of which changes a result. Only the batch's rows of P and Q are
gathered and updated: under Adagrad a row without gradient does not move, so that this is the dense
update. Features are projected once for each triple, as the difference f_i - f_j. A whole epoch is one
graph.
"""

import functools
import os
from collections.abc import Callable

import numpy as np

from src.artifacts.errors import UserError
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.perturbations import (
    Batch,
    Occurrences,
    bpr_loss,
    margins,
    promotion_shift,
    random_feature_shift,
    row_dot,
    table_shifts,
    worst_feature_shift,
)
from src.recommenders.quiet_tensorflow import tf
from src.recommenders.scores import latent_and_visual
from src.recommenders.weights import TABLES, Weights

Shifts = tuple[np.ndarray, np.ndarray]
"""Perturbations of all rows of P and of Q, float32 of the tables' shapes."""


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
        self.tables = _variables(shapes)
        self.accumulators = _variables(shapes)
        n_features = shapes[2][0] if "E" in self.tables else 0
        features = tf.TensorSpec((shapes[1][0], n_features), tf.float32)
        triples = tf.TensorSpec((2 + hyperparameters.negatives, None), tf.int32)
        seed = tf.TensorSpec((), tf.int32)
        shifts = tuple(tf.TensorSpec(shape, tf.float32) for shape in shapes[:2])
        self._compiled_epoch = tf.function(
            self._epoch, input_signature=(features, triples, seed), autograph=False
        )
        self._compiled_step_under = tf.function(
            self._step_under,
            input_signature=(features, triples, shifts, shifts),
            autograph=False,
        )

    def load(self, weights: Weights) -> None:
        for name, table in self.tables.items():
            table.assign(weights.tables[name])
            self.accumulators[name].assign(weights.accumulators[name])

    def save(self, scale: float, epoch: int) -> Weights:
        """Return the present state, as arrays of the host."""
        return Weights(_arrays(self.tables), _arrays(self.accumulators), scale, epoch)

    def epoch(self, features: tf.Tensor, triples: np.ndarray, noise_seed: np.int32) -> float:
        """Train on ``triples`` (2 + negatives, n) int32 in batches, of which the last may be short.

        ``features``: (items, features), scaled. ``noise_seed`` decides only random perturbations.
        Returns the sum of the batches' losses.
        """
        return float(self._compiled_epoch(features, triples, noise_seed))

    def epoch_under(
        self,
        features: tf.Tensor,
        triples: np.ndarray,
        perturb: Callable[[dict[str, np.ndarray], int], Shifts],
    ) -> float:
        """Train an epoch with each batch under perturbations of the whole tables P and Q.

        ``perturb`` computes these from the present tables and the number of the batch.
        """
        of_clean_term = tuple(np.zeros(self.tables[name].shape, np.float32) for name in ("P", "Q"))
        total = 0.0
        for number, start in enumerate(range(0, triples.shape[1], self.hyperparameters.batch)):
            batch = triples[:, start : start + self.hyperparameters.batch]
            shifts = perturb(_arrays(self.tables), number)
            total += float(self._compiled_step_under(features, batch, of_clean_term, shifts))
            if self.adversary.stale_clean_term:
                of_clean_term = shifts
        return total

    def _epoch(self, features: tf.Tensor, triples: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        size, n = self.hyperparameters.batch, tf.shape(triples)[1]

        def step(start: tf.Tensor, total: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = triples[:, start : start + size]
            loss = functools.partial(self._loss, noise_seed=tf.stack([seed, start]))
            return start + size, total + self._step(features, batch, loss)

        # AutoGraph would write its code to a temporary file, which a full disk cannot hold.
        _, total = tf.while_loop(lambda start, _: start < n, step, (0, tf.zeros(())))
        return total

    def _step_under(
        self, features: tf.Tensor, triples: tf.Tensor, clean: Shifts, adversarial: Shifts
    ) -> tf.Tensor:
        """Take a step in which each term of the loss has its own perturbations."""

        def loss(batch: Batch) -> tf.Tensor:
            of_clean_term, of_adversarial = (
                bpr_loss(
                    self._margins(
                        batch,
                        batch.p + tf.gather(p_shift, batch.users.ids),
                        batch.q + tf.gather(q_shift, batch.items.ids),
                    )
                )
                for p_shift, q_shift in (clean, adversarial)
            )
            return of_clean_term + self.adversary.weight * of_adversarial

        return self._step(features, triples, loss)

    def _step(
        self, features: tf.Tensor, triples: tf.Tensor, loss_of: Callable[[Batch], tf.Tensor]
    ) -> tf.Tensor:
        """Take a step of Adagrad on ``loss_of`` the batch and the regulariser; return their sum."""
        batch = self._read(features, triples)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch(batch.variables)
            loss = loss_of(batch) + self._penalty(batch)
        of_p, of_q, *of_projection = tape.gradient(loss, batch.variables)
        self._update_rows("P", batch.users, of_p)
        self._update_rows("Q", batch.items, of_q)
        for gradient in of_projection:
            tf.raw_ops.ResourceApplyAdagrad(
                var=self.tables["E"].handle,
                accum=self.accumulators["E"].handle,
                lr=self.hyperparameters.learning_rates[2],
                grad=gradient,
            )
        return loss

    def _read(self, features: tf.Tensor, triples: tf.Tensor) -> Batch:
        users, preferred, other = triples[0], triples[1], triples[2]
        if self.hyperparameters.negatives > 1:
            other = self._hardest(features, users, triples[2:])
        items = tf.concat([preferred, other], 0)
        rows = {
            "users": Occurrences.of(users),
            "items": Occurrences.of(items),
            "p": tf.gather(self.tables["P"], users),
            "q": tf.gather(self.tables["Q"], items),
        }
        if "E" not in self.tables:
            return Batch(**rows)
        pair = tf.gather(features, preferred), tf.gather(features, other)
        return Batch(**rows, projection=self.tables["E"].read_value(), features=pair)

    def _hardest(self, features: tf.Tensor, users: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Return the ``candidates`` (negatives, n) with the highest scores: (n,)."""
        form, p = self.hyperparameters.form, tf.gather(self.tables["P"], users)
        latent, visual = latent_and_visual(form, p, tf.pad)
        scores = tf.einsum("nd,cnd->nc", latent, tf.gather(self.tables["Q"], candidates))
        if visual is not None:
            projected = tf.gather(features, candidates) @ self.tables["E"]
            scores += tf.einsum("nd,cnd->nc", visual, projected)
        best = tf.argmax(scores, axis=1)
        return tf.gather(tf.transpose(candidates), best, batch_dims=1)

    def _margins(self, batch: Batch, p: tf.Tensor, q: tf.Tensor) -> tf.Tensor:
        return margins(self.hyperparameters.form, p, q, batch.projected)

    def _loss(self, batch: Batch, noise_seed: tf.Tensor) -> tf.Tensor:
        """Return the loss of the batch, plus the weighted loss under the adversary's perturbation."""
        margin = self._margins(batch, batch.p, batch.q)
        loss = bpr_loss(margin)
        if self.adversary is None:
            return loss
        if self.adversary.perturb != "tables":
            perturbed = self._under_feature_shift(batch, margin, noise_seed)
        else:
            perturbed = self._under_table_shifts(batch, noise_seed)
        return loss + self.adversary.weight * bpr_loss(perturbed)

    def _under_feature_shift(
        self, batch: Batch, margin: tf.Tensor, noise_seed: tf.Tensor
    ) -> tf.Tensor:
        _, visual = latent_and_visual(self.hyperparameters.form, batch.p, tf.pad)
        attack = self.adversary.attack
        if attack.kind == "random":
            shift = random_feature_shift(attack.epsilon, batch.projection, batch.items, noise_seed)
        elif self.adversary.perturb == "promotion":
            shift = promotion_shift(attack.epsilon, visual, batch.projection)
        else:
            shift = worst_feature_shift(
                attack.epsilon, margin, visual, batch.projection, batch.items
            )
        return margin + row_dot(visual, shift)

    def _under_table_shifts(self, batch: Batch, noise_seed: tf.Tensor) -> tf.Tensor:
        of_users, of_items = table_shifts(
            self.hyperparameters.form, self.adversary.attack, batch, noise_seed
        )
        return self._margins(
            batch,
            batch.p + tf.stop_gradient(tf.gather(of_users, batch.users.at)),
            batch.q + tf.stop_gradient(tf.gather(of_items, batch.items.at)),
        )

    def _penalty(self, batch: Batch) -> tf.Tensor:
        """Return the regulariser of one batch, over every occurrence of a row."""
        weights = self.hyperparameters.penalties
        if not any(weights):
            return tf.zeros(())
        if self.hyperparameters.regulariser == "signed":
            return _signed_penalty(weights, batch)
        of_p, of_q, of_projection = weights
        if self.hyperparameters.regulariser == "mean":
            # Positives and negatives are two means in the published code, not one.
            measure, of_q = _mean_square, 2 * of_q
        else:
            measure = tf.nn.l2_loss
        penalty = of_p * measure(batch.p) + of_q * measure(batch.q)
        if batch.projection is None or not of_projection:
            return penalty
        return penalty + of_projection * measure(batch.projection)

    def _update_rows(self, name: str, occurrences: Occurrences, gradient: tf.Tensor) -> None:
        """Update distinct rows with Adagrad; ``gradient`` has one row for each occurrence.

        Gather, compute, scatter: TensorFlow's own sparse Adagrad does the same more slowly.
        """
        learning_rate = self.hyperparameters.learning_rates[TABLES.index(name)]
        rows, summed = occurrences.rows, occurrences.sum(gradient)
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
    """Return the trainer for these shapes, from a cache, since tracing its graph takes long."""
    with tf.device(device):
        return PairwiseTrainer(shapes, hyperparameters, adversary)


def features_on(device: str, features: np.ndarray | None, n_items: int) -> tf.Tensor:
    """Return features (items, features) on the device; without features a matrix without columns."""
    with tf.device(device):
        return tf.zeros((n_items, 0)) if features is None else tf.constant(features)


@functools.cache
def select_device(gpu: int) -> str:
    """Return the TensorFlow device for ``--gpu``; -1 is the CPU, and so is any number without a GPU."""
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


def _variables(shapes: tuple[tuple[int, int], ...]) -> dict[str, tf.Variable]:
    return {
        name: tf.Variable(tf.zeros(shape), trainable=False)
        for name, shape in zip(TABLES, shapes, strict=False)
    }


def _arrays(variables: dict[str, tf.Variable]) -> dict[str, np.ndarray]:
    return {name: variable.numpy() for name, variable in variables.items()}


def _mean_square(rows: tf.Tensor) -> tf.Tensor:
    return tf.reduce_mean(tf.square(rows))


def _signed_penalty(weights: tuple[float, float, float], batch: Batch) -> tf.Tensor:
    """Return sums of entries, as published; the sum of f_i E is (sum of f_i) . (row sums of E)."""
    of_p, of_q, of_projection = weights
    penalty = of_p * tf.reduce_sum(batch.p) + of_q * tf.reduce_sum(batch.q)
    if batch.projection is None:
        return penalty
    preferred, other = batch.features
    row_sums = tf.reduce_sum(batch.projection, 1)
    of_features = tf.tensordot(tf.reduce_sum(preferred + other, 0), row_sums, 1)
    return penalty + of_q * of_features + of_projection * tf.reduce_sum(row_sums)
