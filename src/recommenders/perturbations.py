"""Perturbations that AMR and AMF train against, for one batch and inside its graph.

AMR shifts the features of the batch's items (Tang et al., TKDE 2020), RankAMR those of its negatives as
an attack on ranks does, AMF the rows of P and Q that the batch reads (He et al., "Adversarial
Personalized Ranking", SIGIR 2018). All are constants while the loss under them is differentiated.
"""

import functools
from typing import NamedTuple

from src.recommenders.parameter_attack import SMALLEST_NORM, ParameterAttack
from src.recommenders.quiet_tensorflow import tf
from src.recommenders.scores import Form, latent_and_visual


class Occurrences(NamedTuple):
    """Rows of a table that a batch reads, some of them repeatedly."""

    ids: tf.Tensor
    """Row numbers (n,) in the order of the batch."""
    rows: tf.Tensor
    """Distinct row numbers (distinct,)."""
    at: tf.Tensor
    """Positions (n,), such that ``ids`` is ``rows[at]``."""

    @classmethod
    def of(cls, ids: tf.Tensor) -> "Occurrences":
        return cls(ids, *tf.unique(ids))

    def sum(self, values: tf.Tensor) -> tf.Tensor:
        """Return the sums (distinct, columns) of ``values`` (n, columns) by row."""
        return tf.math.unsorted_segment_sum(values, self.at, tf.size(self.rows))


class Batch(NamedTuple):
    """Rows of tables and features that a batch of n triples reads."""

    users: Occurrences
    items: Occurrences
    """Rows of the positives, then of the negatives."""
    p: tf.Tensor
    """Rows of P (n, columns)."""
    q: tf.Tensor
    """Rows of Q (2 n, columns): positives, then negatives."""
    projection: tf.Tensor | None = None
    """Table E, in visual forms."""
    features: tuple[tf.Tensor, tf.Tensor] | None = None
    """Features (n, features) of the positives and of the negatives, in visual forms."""

    @property
    def variables(self) -> tuple[tf.Tensor, ...]:
        """Variables that have gradients."""
        rows = (self.p, self.q)
        return rows if self.projection is None else (*rows, self.projection)

    @property
    def projected(self) -> tf.Tensor | None:
        """Return (f_i - f_j) E, in visual forms."""
        if self.features is None:
            return None
        preferred, other = self.features
        return tf.matmul(preferred - other, self.projection)


def row_dot(left: tf.Tensor, right: tf.Tensor) -> tf.Tensor:
    """Return dot products (n,) of each row of ``left`` (n, d) with that row of ``right``."""
    return tf.reduce_sum(left * right, 1)


def margins(form: Form, p: tf.Tensor, q: tf.Tensor, projected: tf.Tensor | None) -> tf.Tensor:
    """Return s_ui - s_uj of every triple; ``projected`` is (f_i - f_j) E."""
    latent, visual = latent_and_visual(form, p, tf.pad)
    of_positive, of_negative = tf.split(q, 2)
    difference = of_positive - of_negative
    if visual is None:
        return row_dot(latent, difference)
    if latent is visual:  # one product serves both
        return row_dot(latent, difference + projected)
    return row_dot(latent, difference) + row_dot(visual, projected)


def bpr_loss(margin: tf.Tensor) -> tf.Tensor:
    """Return -sum log sigmoid(s_ui - s_uj)."""
    return tf.reduce_sum(tf.math.softplus(-margin))


def worst_feature_shift(
    epsilon: float, margin: tf.Tensor, visual: tf.Tensor, projection: tf.Tensor, items: Occurrences
) -> tf.Tensor:
    """Return (d_i - d_j) E for every triple, with AMR's perturbation d_i of the features of item i.

    d_i = eps * g_i / |g_i| with g_i the clean loss's gradient with respect to f_i, summed over
    the batch, and d_i constant while the loss is differentiated. Since f enters only as f E,
    g_i = h_i E' with h_i the gradient with respect to f_i E; with M = E' E then
    d_i E = eps * h_i M / sqrt(h_i M h_i'), and nothing as wide as the features is ever built.
    """
    pull = tf.stop_gradient(-tf.sigmoid(-margin)[:, None] * visual)
    h = items.sum(tf.concat([pull, -pull], 0))
    gram = tf.matmul(tf.stop_gradient(projection), projection, transpose_a=True)
    norm = tf.sqrt(tf.nn.relu(row_dot(h, tf.matmul(h, gram))))
    unit = tf.stop_gradient(tf.math.divide_no_nan(h, norm[:, None]))
    of_positive, of_negative = tf.split(tf.gather(unit, items.at), 2)
    return epsilon * tf.matmul(of_positive - of_negative, gram)


def promotion_shift(epsilon: float, visual: tf.Tensor, projection: tf.Tensor) -> tf.Tensor:
    """Return (d_i - d_j) E (1, columns), as if an attack on ranks had promoted every negative j.

    d_j = eps * m / |m| with m = E v the mean slope of the scores of the batch's users and v their mean
    visual factors: of all changes of that length it raises the mean score most. Positives stay, and d_j
    is constant while the loss is differentiated.
    """
    mean = tf.stop_gradient(tf.reduce_mean(visual, 0, keepdims=True))
    gram = tf.matmul(tf.stop_gradient(projection), projection, transpose_a=True)
    norm = tf.sqrt(tf.nn.relu(row_dot(mean, tf.matmul(mean, gram))))
    return -epsilon * tf.matmul(tf.stop_gradient(tf.math.divide_no_nan(mean, norm[:, None])), gram)


def random_feature_shift(
    epsilon: float, projection: tf.Tensor, items: Occurrences, seed: tf.Tensor
) -> tf.Tensor:
    """Return (d_i - d_j) E for perturbations of norm eps in directions uniform over the sphere."""
    shift = _direction(epsilon, (tf.size(items.rows), projection.shape[0]), seed)
    of_positive, of_negative = tf.split(tf.gather(tf.matmul(shift, projection), items.at), 2)
    return of_positive - of_negative


def table_shifts(
    form: Form, attack: ParameterAttack, batch: Batch, seed: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """Return AMF's perturbations of the batch's distinct rows of P and of Q: (users, .) and (items, .).

    Each step adds a multiple of the row's unit gradient of the batch's loss; then the shift is
    projected onto the row's budget.
    """
    tables = ((batch.p, batch.users), (batch.q, batch.items))
    shapes = [(tf.size(of_table.rows), occurrences.shape[1]) for occurrences, of_table in tables]
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, len(tables)))
    if attack.kind == "random":
        p_shift, q_shift = map(functools.partial(_direction, attack.epsilon), shapes, seeds)
        return p_shift, q_shift
    p_shift, q_shift = map(functools.partial(_start, attack), shapes, seeds)
    for _ in range(attack.steps):
        p = batch.p + tf.gather(p_shift, batch.users.at)
        q = batch.q + tf.gather(q_shift, batch.items.at)
        with tf.GradientTape(watch_accessed_variables=False) as tape:
            tape.watch((p, q))
            loss = bpr_loss(margins(form, p, q, batch.projected))
        of_p, of_q = tape.gradient(loss, (p, q))
        p_shift = _ascend(attack, p_shift, batch.users.sum(of_p))
        q_shift = _ascend(attack, q_shift, batch.items.sum(of_q))
    return p_shift, q_shift


def _direction(length: float, shape: tuple[tf.Tensor, int], seed: tf.Tensor) -> tf.Tensor:
    """Return rows of one length in directions uniform over the sphere."""
    return length * tf.math.l2_normalize(tf.random.stateless_normal(shape, seed), axis=1)


def _start(attack: ParameterAttack, shape: tuple[tf.Tensor, int], seed: tf.Tensor) -> tf.Tensor:
    """Return a start that is uniform over the budget for PGD, and zero otherwise."""
    if attack.kind != "pgd":
        return tf.zeros(shape)
    if attack.projection == "box":
        return tf.random.stateless_uniform(shape, seed, -attack.epsilon, attack.epsilon)
    of_direction, of_radius = tf.unstack(tf.random.experimental.stateless_split(seed, 2))
    radius = tf.random.stateless_uniform((shape[0], 1), of_radius) ** (1 / shape[1])
    return radius * _direction(attack.epsilon, shape, of_direction)


def _ascend(attack: ParameterAttack, shift: tf.Tensor, gradient: tf.Tensor) -> tf.Tensor:
    shift += attack.step_size * gradient / tf.maximum(_norm(gradient), SMALLEST_NORM)
    if attack.projection == "box":
        return tf.clip_by_value(shift, -attack.epsilon, attack.epsilon)
    return shift * tf.minimum(1.0, attack.epsilon / tf.maximum(_norm(shift), SMALLEST_NORM))


def _norm(rows: tf.Tensor) -> tf.Tensor:
    return tf.norm(rows, axis=1, keepdims=True)
