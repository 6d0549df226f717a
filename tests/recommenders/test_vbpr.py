"""Training of VBPR and AMR: the fast step against a slow, literal one, and invariants.

The reference below differentiates whole tables with the tape, builds AMR's perturbation as a matrix as
wide as the features, and updates every row of every table with dense Adagrad.
"""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.bpr import PairwiseTrainer
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.parameter_attack import ParameterAttack
from src.recommenders.perturbations import (
    Occurrences,
    promotion_shift,
    random_feature_shift,
    worst_feature_shift,
)
from src.recommenders.sampling import TripleSampler
from src.recommenders.scores import fold
from src.recommenders.weights import (
    TABLES,
    feature_scale,
    initial_weights,
    read_weights,
    table_shapes,
    write_weights,
)

N_USERS, N_ITEMS, N_FEATURES = 13, 11, 40
RATES = (0.05, 0.03, 0.02)
SMALL = Hyperparameters(factors=5, batch=16, learning_rates=RATES, penalties=(0.1, 0.02, 0.003))
EPOCHS = 4


def amr(weight: float = 0.1, epsilon: float = 1.0, kind: str = "fgsm") -> Adversary:
    return Adversary(weight, ParameterAttack(kind, epsilon), "features")


def small_data(seed: int = 0) -> tuple[TripleSampler, np.ndarray]:
    rng = np.random.default_rng(seed)
    has = rng.random((N_USERS, N_ITEMS)) < 0.3
    has[:, 0], has[0, 0] = False, True
    pairs, no_test = np.argwhere(has), np.empty((0, 2), np.int64)
    features = rng.gamma(0.5, size=(N_ITEMS, N_FEATURES)).astype(np.float32)
    return TripleSampler.of(Interactions(pairs, no_test, N_USERS, N_ITEMS)), features


def large_start(hyperparameters: Hyperparameters, features: np.ndarray, seed: int = 1):
    """Draw initial weights thirty times as large as usual, so that every term of the loss matters."""
    shapes = table_shapes(N_USERS, *features.shape, hyperparameters)
    weights = initial_weights(shapes, hyperparameters, feature_scale(features), seed)
    return replace(weights, tables={name: 30 * table for name, table in weights.tables.items()})


def train_fast(hyperparameters, adversary, weights, sampler, features):
    """Train with the fast step; return weights and the epochs' losses."""
    trainer = PairwiseTrainer(weights.shapes, hyperparameters, adversary)
    trainer.load(weights)
    scaled = tf.constant(features / np.float32(weights.scale))
    drop = hyperparameters.batch if hyperparameters.drop_last_batch else 1
    losses = [
        trainer.epoch(scaled, sampler.epoch(0, epoch, drop), np.int32(epoch))
        for epoch in range(1, EPOCHS + 1)
    ]
    return trainer.save(weights.scale, EPOCHS), losses


def scores_of(form, tables, users, items, features):
    """Compute scores by the equations of the papers, one triple's items at a time."""
    p, q, e = tables
    if form == "shared":
        return tf.reduce_sum(
            tf.gather(p, users) * (tf.gather(q, items) + tf.gather(features, items) @ e), axis=1
        )
    k = p.shape[1] // 2
    gamma_u, theta_u = tf.gather(p[:, :k], users), tf.gather(p[:, k:], users)
    f = tf.gather(features, items)
    return (
        tf.gather(q[:, k], items)
        + tf.reduce_sum(gamma_u * tf.gather(q[:, :k], items), axis=1)
        + tf.reduce_sum(theta_u * (f @ e[:, :k]), axis=1)
        + tf.linalg.matvec(f, e[:, k])
    )


def bpr_loss(form, tables, batch, features):
    users, positives, negatives = batch
    better = scores_of(form, tables, users, positives, features)
    worse = scores_of(form, tables, users, negatives, features)
    return tf.reduce_sum(tf.math.softplus(worse - better))


def reference_perturbation(form, tables, batch, features, epsilon):
    """Return perturbations (items, features): eps times the unit gradient of the clean loss, or 0."""
    with tf.GradientTape() as tape:
        tape.watch(features)
        loss = bpr_loss(form, tables, batch, features)
    gradient = tf.convert_to_tensor(tape.gradient(loss, features)).numpy()
    norm = np.linalg.norm(gradient, axis=1, keepdims=True)
    return epsilon * np.divide(gradient, norm, out=np.zeros_like(gradient), where=norm > 0)


def reference_penalty(hyperparameters, tables, batch, features):
    of_p, of_q, of_e = hyperparameters.penalties
    p, q, e = tables
    users, positives, negatives = batch
    total = 0.0
    for items in (positives, negatives):
        rows = tf.gather(q, items)
        if hyperparameters.regulariser == "squared":
            total += of_q * 0.5 * tf.reduce_sum(rows**2)
        else:
            total += of_q * (tf.reduce_sum(rows) + tf.reduce_sum(tf.gather(features, items) @ e))
    user_rows = tf.gather(p, users)
    if hyperparameters.regulariser == "squared":
        total += of_p * 0.5 * tf.reduce_sum(user_rows**2) + of_e * 0.5 * tf.reduce_sum(e**2)
    else:
        total += of_p * tf.reduce_sum(user_rows) + of_e * tf.reduce_sum(e)
    return total


def train_reference(hyperparameters, adversary, weights, sampler, features):
    tables = [tf.constant(weights.tables[name]) for name in TABLES]
    accumulators = [weights.accumulators[name].copy() for name in TABLES]
    features = tf.constant(features / np.float32(weights.scale))
    form, losses = hyperparameters.form, []
    for epoch in range(1, EPOCHS + 1):
        triples = sampler.epoch(0, epoch)
        if hyperparameters.drop_last_batch:
            triples = triples[
                :, : triples.shape[1] // hyperparameters.batch * hyperparameters.batch
            ]
        losses.append(0.0)
        for start in range(0, triples.shape[1], hyperparameters.batch):
            batch = triples[:, start : start + hyperparameters.batch]
            if adversary:
                delta = reference_perturbation(
                    form, tables, batch, features, adversary.attack.epsilon
                )
            with tf.GradientTape() as tape:
                tape.watch(tables)
                loss = bpr_loss(form, tables, batch, features)
                if adversary:
                    loss += adversary.weight * bpr_loss(form, tables, batch, features + delta)
                loss += reference_penalty(hyperparameters, tables, batch, features)
            gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, tables)]
            for at, rate in enumerate(hyperparameters.learning_rates):
                accumulators[at] += gradients[at] ** 2
                tables[at] -= rate * gradients[at] / np.sqrt(accumulators[at])
            losses[-1] += float(loss)
    return [table.numpy() for table in tables], accumulators, losses


@pytest.mark.parametrize("form", ["shared", "full"])
@pytest.mark.parametrize("adversary", [None, amr(0.7, 0.9)])
@pytest.mark.parametrize("regulariser", ["squared", "signed"])
def test_step_equals_the_literal_one(form, adversary, regulariser):
    sampler, features = small_data()
    paper = regulariser == "signed"
    hyperparameters = replace(SMALL, form=form, regulariser=regulariser, drop_last_batch=paper)
    start = large_start(hyperparameters, features)
    weights, losses = train_fast(hyperparameters, adversary, start, sampler, features)
    tables, accumulators, expected = train_reference(
        hyperparameters, adversary, start, sampler, features
    )
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, table, accumulator in zip(TABLES, tables, accumulators, strict=True):
        moved = np.abs(table - start.tables[name]).max()
        assert moved > 0.01
        np.testing.assert_allclose(weights.tables[name], table, atol=1e-5)
        np.testing.assert_allclose(weights.accumulators[name], accumulator, rtol=1e-4, atol=1e-5)


def test_the_adversary_changes_what_is_learnt_and_raises_the_loss():
    sampler, features = small_data()
    start = large_start(SMALL, features)
    clean, _ = train_fast(SMALL, None, start, sampler, features)
    adversarial, losses = train_fast(SMALL, amr(1.0, 1.0), start, sampler, features)
    noisy, noisy_losses = train_fast(SMALL, amr(1.0, 1.0, "random"), start, sampler, features)
    assert np.abs(adversarial.tables["P"] - clean.tables["P"]).max() > 1e-3
    assert np.abs(noisy.tables["P"] - clean.tables["P"]).max() > 1e-3
    assert losses[0] > noisy_losses[0]  # the gradient is the worst direction


@pytest.mark.parametrize("kind", ["fgsm", "random"])
@pytest.mark.parametrize("form", ["shared", "full"])
def test_without_weight_the_adversary_is_vbpr_bit_for_bit(kind, form):
    sampler, features = small_data()
    hyperparameters = replace(SMALL, form=form)
    start = large_start(hyperparameters, features)
    clean, _ = train_fast(hyperparameters, None, start, sampler, features)
    unweighted, _ = train_fast(hyperparameters, amr(0.0, 1.0, kind), start, sampler, features)
    for name in TABLES:
        np.testing.assert_array_equal(clean.tables[name], unweighted.tables[name])


def shifts(kind: str, epsilon: float, p: np.ndarray) -> np.ndarray:
    """Compute (d_i - d_j) E of triples of distinct items, with E the identity."""
    width = p.shape[1]
    items, projection = Occurrences.of(tf.range(2 * len(p))), tf.eye(width)
    if kind == "random":
        return random_feature_shift(epsilon, projection, items, tf.constant([1, 2])).numpy()
    margin, visual = tf.zeros(len(p)), tf.constant(p)
    return worst_feature_shift(epsilon, margin, visual, projection, items).numpy()


def test_each_perturbed_item_moves_by_exactly_epsilon_against_the_pair():
    p = np.random.default_rng(0).standard_normal((6, 4)).astype(np.float32)
    p[3] = 0  # no gradient: nothing to perturb
    p[4] *= 1e-12
    shift = shifts("fgsm", 0.3, p)
    unit = p / np.maximum(np.linalg.norm(p, axis=1, keepdims=True), 1e-30)
    # d_i = -eps p / |p| and d_j = +eps p / |p|: both lower the margin of the pair.
    np.testing.assert_allclose(shift, -2 * 0.3 * unit, atol=1e-6)
    assert (shift[3] == 0).all()


def test_promotion_raises_the_mean_score_of_the_negatives_as_much_as_its_length_allows():
    rng = np.random.default_rng(0)
    visual, projection = rng.standard_normal((6, 3)), rng.standard_normal((5, 3))
    arguments = (tf.constant(array, tf.float32) for array in (visual, projection))
    shift = promotion_shift(0.3, *arguments).numpy()
    mean_slope = projection @ visual.mean(axis=0)
    moved = 0.3 * mean_slope / np.linalg.norm(mean_slope)
    np.testing.assert_allclose(shift, -(moved @ projection)[None], rtol=1e-5)
    # The mean margin over the batch falls by eps |m|: no other change of that length lowers it more.
    lowered = (visual * shift).sum(axis=1).mean()
    assert lowered == pytest.approx(-0.3 * np.linalg.norm(mean_slope), rel=1e-5)
    nobody = promotion_shift(0.3, tf.zeros((6, 3)), tf.eye(3)).numpy()
    assert (nobody == 0).all()


def test_random_perturbations_have_norm_epsilon_and_no_common_direction():
    epsilon, width = 0.3, 400
    shift = shifts("random", epsilon, np.zeros((500, width), np.float32))
    # Two independent perturbations of norm eps are nearly orthogonal in many dimensions.
    np.testing.assert_allclose(np.linalg.norm(shift, axis=1), epsilon * np.sqrt(2), rtol=0.15)
    assert np.linalg.norm(shift.mean(axis=0)) < 0.1 * epsilon


def test_signed_regulariser_pulls_with_the_same_force_everywhere():
    """For pairs that are won by far, only a constant is left: l1 and l2 for each occurrence."""
    hyperparameters = Hyperparameters(
        factors=2, penalties=(0.1, 0.01, 0.0), regulariser="signed", learning_rates=(0.5, 0.5, 0.5)
    )
    shapes = ((2, 2), (3, 2), (4, 2))
    trainer = PairwiseTrainer(shapes, hyperparameters, None)
    start = initial_weights(shapes, hyperparameters, 1.0, 0)
    p = np.array([[100.0, 100.0], [-200.0, -200.0]], np.float32)
    q = np.array([[9.0, 9.0], [-9.0, -9.0], [0.0, 0.0]], np.float32)
    trainer.load(replace(start, tables={**start.tables, "P": p, "Q": q}))
    triples = np.array([[0, 0, 1], [0, 0, 1], [1, 2, 2]], np.int32)
    trainer.epoch(tf.zeros((3, 4)), triples, np.int32(0))
    after = trainer.save(1.0, 1)
    force = np.sqrt(after.accumulators["P"] - 0.1)
    np.testing.assert_allclose(force, [[0.2, 0.2], [0.1, 0.1]], rtol=1e-3)
    force = np.sqrt(after.accumulators["Q"] - 0.1)
    np.testing.assert_allclose(force, [[0.02] * 2, [0.02] * 2, [0.02] * 2], rtol=2e-2)
    assert (after.tables["P"] < p).all()  # downward from either side of zero: no shrinking
    assert (after.tables["Q"] < q).all()


@pytest.mark.parametrize("adversary", [None, amr(), amr(kind="random")])
def test_the_same_seed_gives_the_same_bytes_and_a_trainer_can_be_used_again(adversary):
    sampler, features = small_data()
    start = large_start(SMALL, features)
    trainer = PairwiseTrainer(start.shapes, SMALL, adversary)
    scaled = tf.constant(features)
    results = []
    for _ in range(2):
        trainer.load(start)
        for epoch in range(3):
            trainer.epoch(scaled, sampler.epoch(0, epoch), np.int32(epoch))
        results.append(trainer.save(1.0, 3))
    for name in TABLES:
        np.testing.assert_array_equal(results[0].tables[name], results[1].tables[name])
        np.testing.assert_array_equal(results[0].accumulators[name], results[1].accumulators[name])
    assert trainer._compiled_epoch.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("form", ["shared", "full"])
def test_folded_matrices_multiply_to_the_scores(form):
    _, features = small_data()
    hyperparameters = replace(SMALL, form=form)
    tables = large_start(hyperparameters, features).tables
    users, items = np.divmod(np.arange(N_USERS * N_ITEMS), N_ITEMS)
    expected = scores_of(form, [tables[name] for name in TABLES], users, items, features)
    folded_users, folded_items = fold(form, tables, features)
    scores = folded_users @ folded_items.T
    np.testing.assert_allclose(scores.ravel(), expected, rtol=1e-4, atol=1e-4)


def test_initial_weights_are_a_truncated_normal_and_biases_start_at_zero():
    _, features = small_data()
    hyperparameters = Hyperparameters(form="full", factors=64)
    shapes = table_shapes(3000, *features.shape, hyperparameters)
    assert shapes == ((3000, 128), (N_ITEMS, 65), (N_FEATURES, 65))
    tables = initial_weights(shapes, hyperparameters, 1.0, 0).tables
    assert np.abs(tables["P"]).max() <= 0.02
    assert tables["P"].std() == pytest.approx(0.0088, abs=2e-4)  # sd of a normal cut at two sd
    assert abs(tables["P"].mean()) < 1e-4
    assert not tables["Q"][:, -1].any() and not tables["E"][:, -1].any()
    other = initial_weights(shapes, hyperparameters, 1.0, 1).tables
    assert (tables["P"] != other["P"]).any()


def test_weights_read_back_exactly_and_other_shapes_are_refused(tmp_path):
    _, features = small_data()
    weights = replace(large_start(SMALL, features), epoch=7)
    path = tmp_path / "weights.npz"
    write_weights(path, weights)
    read = read_weights(path, weights.shapes)
    assert (read.scale, read.epoch) == (weights.scale, 7)
    for name in TABLES:
        np.testing.assert_array_equal(read.tables[name], weights.tables[name])
    with pytest.raises(UserError, match="table P is"):
        read_weights(path, table_shapes(N_USERS, *features.shape, replace(SMALL, factors=6)))
    path.write_bytes(b"no archive")
    with pytest.raises(UserError, match="is not an archive"):
        read_weights(path, weights.shapes)


@pytest.mark.parametrize(
    "values", [{"learning_rates": (0.1, -1, 0.1)}, {"penalties": (0.1, float("nan"), 0)}]
)
def test_impossible_hyperparameters_are_refused(values):
    with pytest.raises(UserError):
        Hyperparameters(**values)
    with pytest.raises(UserError):
        amr(weight=-0.1)
