"""BPR-MF and AMF: the fast step against a literal one, and cases in which AMF is the plain model.

The reference differentiates whole tables with the tape, builds AMF's perturbations as whole tables, and
updates every row with dense Adagrad.
"""

from dataclasses import replace

import numpy as np
import pytest
import tensorflow as tf

from src.datasets.interactions import Interactions
from src.recommenders.bpr import PairwiseTrainer, features_on
from src.recommenders.hyperparameters import Adversary, Hyperparameters
from src.recommenders.parameter_attack import ParameterAttack
from src.recommenders.sampling import TripleSampler
from src.recommenders.scores import fold
from src.recommenders.weights import (
    Weights,
    initial_weights,
    read_weights,
    table_shapes,
    write_weights,
)

N_USERS, N_ITEMS, EPOCHS = 13, 17, 3
SMALL = Hyperparameters(
    form="mf", factors=5, batch=16, learning_rates=(0.05, 0.03, 1.0), penalties=(0.1, 0.02, 0.0)
)
FORMS = ("mf", "mf_bias")
NO_FEATURES = features_on("/CPU:0", None, N_ITEMS)


def amf(attack: ParameterAttack, weight: float = 0.7, **options) -> Adversary:
    return Adversary(weight, attack, "tables", **options)


@pytest.fixture
def sampler() -> TripleSampler:
    has = np.random.default_rng(0).random((N_USERS, N_ITEMS)) < 0.3
    has[:, 0] = False  # an item without interactions is only ever a negative
    interactions = Interactions(np.argwhere(has), np.empty((0, 2), np.int64), N_USERS, N_ITEMS)
    return TripleSampler.of(interactions, cold_items=True)


def large_start(hyperparameters: Hyperparameters) -> Weights:
    """Draw initial weights thirty times as large as usual, so that every term of the loss matters."""
    shapes = table_shapes(N_USERS, N_ITEMS, 0, hyperparameters)
    weights = initial_weights(shapes, hyperparameters, 1.0, 1)
    return replace(weights, tables={name: 30 * table for name, table in weights.tables.items()})


def train(hyperparameters, adversary, start, sampler, perturb=None) -> tuple[Weights, list[float]]:
    trainer = PairwiseTrainer(start.shapes, hyperparameters, adversary)
    trainer.load(start)
    losses = []
    for epoch in range(EPOCHS):
        triples = sampler.epoch(0, epoch, n_negatives=hyperparameters.negatives)
        if perturb is None:
            losses.append(trainer.epoch(NO_FEATURES, triples, np.int32(epoch)))
        else:
            losses.append(trainer.epoch_under(NO_FEATURES, triples, perturb))
    return trainer.save(1.0, EPOCHS), losses


def scores(tables, users, items):
    p, q = (tf.gather(table, ids) for table, ids in zip(tables, (users, items), strict=True))
    d = p.shape[1]
    product = tf.reduce_sum(p * q[:, :d], axis=1)
    return product + q[:, d] if q.shape[1] > d else product


def loss_of(tables, batch):
    users, positives, negatives = batch
    margin = scores(tables, users, positives) - scores(tables, users, negatives)
    return tf.reduce_sum(tf.math.softplus(-margin))


def gradients_of(tables, batch) -> list[np.ndarray]:
    with tf.GradientTape() as tape:
        tape.watch(tables)
        loss = loss_of(tables, batch)
    return [tf.convert_to_tensor(gradient).numpy() for gradient in tape.gradient(loss, tables)]


def literal_perturbation(attack: ParameterAttack, tables, batch) -> list[np.ndarray]:
    """Perturb row by row: a step along the unit gradient, then the projection onto the budget."""
    shifts = [np.zeros(table.shape, np.float32) for table in tables]
    n_steps, length = (1, attack.epsilon) if attack.kind == "fgsm" else (attack.steps, 0.1)
    for _ in range(n_steps):
        shifted = [table + shift for table, shift in zip(tables, shifts, strict=True)]
        for shift, gradient in zip(shifts, gradients_of(shifted, batch), strict=True):
            for row, of_row in zip(shift, gradient, strict=True):
                row += length * of_row / max(np.linalg.norm(of_row), 1e-6)
                if attack.projection == "box":
                    row[:] = row.clip(-attack.epsilon, attack.epsilon)
                elif (norm := np.linalg.norm(row)) > attack.epsilon:
                    row *= attack.epsilon / norm
    return shifts


def literal_penalty(hyperparameters, tables, batch):
    users, positives, negatives = batch
    p, i, j = (
        tf.gather(tables[0], users),
        tf.gather(tables[1], positives),
        tf.gather(tables[1], negatives),
    )
    of_p, of_q, _ = hyperparameters.penalties
    if hyperparameters.regulariser == "mean":
        return of_p * tf.reduce_mean(p**2) + of_q * (tf.reduce_mean(i**2) + tf.reduce_mean(j**2))
    squares = of_p * tf.reduce_sum(p**2) + of_q * (tf.reduce_sum(i**2) + tf.reduce_sum(j**2))
    return squares / 2


def train_literally(hyperparameters, adversary, start, sampler):
    tables = [tf.constant(table) for table in start.tables.values()]
    accumulators = [table.copy() for table in start.accumulators.values()]
    losses = []
    for epoch in range(EPOCHS):
        triples = sampler.epoch(0, epoch)
        losses.append(0.0)
        for first in range(0, triples.shape[1], hyperparameters.batch):
            batch = triples[:, first : first + hyperparameters.batch]
            if adversary:
                shifts = literal_perturbation(adversary.attack, tables, batch)
            with tf.GradientTape() as tape:
                tape.watch(tables)
                loss = loss_of(tables, batch) + literal_penalty(hyperparameters, tables, batch)
                if adversary:
                    shifted = [table + shift for table, shift in zip(tables, shifts, strict=True)]
                    loss += adversary.weight * loss_of(shifted, batch)
            gradients = [tf.convert_to_tensor(g).numpy() for g in tape.gradient(loss, tables)]
            for at, rate in enumerate(hyperparameters.learning_rates[:2]):
                accumulators[at] += gradients[at] ** 2
                tables[at] -= rate * gradients[at] / np.sqrt(accumulators[at])
            losses[-1] += float(loss)
    return [table.numpy() for table in tables], accumulators, losses


ADVERSARIES = {
    "plain": None,
    "fgsm": amf(ParameterAttack("fgsm", 0.5)),
    "bim, box": amf(ParameterAttack("bim", 0.2, steps=4, step_size=0.1, projection="box")),
    "bim, l2": amf(ParameterAttack("bim", 0.25, steps=4, step_size=0.1)),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("adversary", ADVERSARIES.values(), ids=ADVERSARIES.keys())
@pytest.mark.parametrize("regulariser", ["squared", "mean"])
def test_step_equals_the_literal_one(sampler, form, adversary, regulariser):
    hyperparameters = replace(SMALL, form=form, regulariser=regulariser)
    start = large_start(hyperparameters)
    weights, losses = train(hyperparameters, adversary, start, sampler)
    tables, accumulators, expected = train_literally(hyperparameters, adversary, start, sampler)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for name, table, accumulator in zip("PQ", tables, accumulators, strict=True):
        assert np.abs(table - start.tables[name]).max() > 0.05
        np.testing.assert_allclose(weights.tables[name], table, atol=2e-5)
        np.testing.assert_allclose(weights.accumulators[name], accumulator, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["fgsm", "pgd", "random"])
@pytest.mark.parametrize("form", FORMS)
def test_without_weight_amf_is_bpr_mf_step_for_step(sampler, form, kind):
    hyperparameters = replace(SMALL, form=form)
    start = large_start(hyperparameters)
    plain, _ = train(hyperparameters, None, start, sampler)
    unweighted, _ = train(hyperparameters, amf(ParameterAttack(kind), weight=0.0), start, sampler)
    for name in "PQ":
        np.testing.assert_array_equal(plain.tables[name], unweighted.tables[name])
        np.testing.assert_array_equal(plain.accumulators[name], unweighted.accumulators[name])


def test_without_weight_amf_under_whole_tables_is_bpr_mf_too(sampler):
    start = large_start(SMALL)
    plain, losses = train(SMALL, None, start, sampler)
    adversary = amf(ParameterAttack(), weight=0.0, scope="full")
    ones = tuple(np.ones(shape, np.float32) for shape in start.shapes)
    unweighted, same_losses = train(SMALL, adversary, start, sampler, lambda *_: ones)
    np.testing.assert_allclose(same_losses, losses, rtol=1e-6)
    for name in "PQ":
        np.testing.assert_allclose(unweighted.tables[name], plain.tables[name], atol=1e-6)


def test_the_gradient_is_a_worse_direction_than_chance(sampler):
    start = large_start(SMALL)
    first_epoch = {
        kind: train(SMALL, amf(ParameterAttack(kind, 0.5)), start, sampler)[1][0]
        for kind in ("random", "fgsm")
    }
    first_epoch["plain"] = train(SMALL, amf(ParameterAttack("fgsm", 0.0)), start, sampler)[1][0]
    assert first_epoch["plain"] < first_epoch["random"] < first_epoch["fgsm"]


@pytest.mark.parametrize("stale", [False, True])
def test_whole_table_perturbations_are_those_given_and_may_reach_the_clean_term(sampler, stale):
    """The losses of the first two batches at frozen tables show the perturbation of each term."""
    frozen = replace(SMALL, learning_rates=(1e-12,) * 3, penalties=(0.0, 0.0, 0.0))
    start = large_start(frozen)
    adversary = amf(ParameterAttack(), weight=2.0, scope="full", stale_clean_term=stale)
    rng = np.random.default_rng(3)
    given = [
        tuple(rng.standard_normal(shape).astype(np.float32) for shape in start.shapes)
        for _ in range(2)
    ]
    trainer = PairwiseTrainer(start.shapes, frozen, adversary)
    trainer.load(start)
    triples = sampler.epoch(0, 0)[:, : 2 * frozen.batch]
    numbers = []

    def perturb(tables, number):
        numbers.append(number)
        np.testing.assert_allclose(tables["P"], start.tables["P"], atol=1e-6)
        return given[number]

    loss = trainer.epoch_under(NO_FEATURES, triples, perturb)

    def under(shift, batch) -> float:
        tables = [table + of for table, of in zip(start.tables.values(), shift, strict=True)]
        return float(loss_of(tables, batch))

    first, second = triples[:, : frozen.batch], triples[:, frozen.batch :]
    nothing = tuple(np.zeros(shape, np.float32) for shape in start.shapes)
    before_second = given[0] if stale else nothing
    expected = under(nothing, first) + 2 * under(given[0], first)
    expected += under(before_second, second) + 2 * under(given[1], second)
    assert numbers == [0, 1]
    assert loss == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("form", ["mf", "mf_bias", "shared", "full"])
def test_a_step_takes_the_hardest_of_several_negatives(form):
    hyperparameters = replace(SMALL, form=form, negatives=3, batch=2)
    shapes = table_shapes(2, 6, 4, hyperparameters)
    rng = np.random.default_rng(0)
    features = rng.random((6, 4)).astype(np.float32)
    start = initial_weights(shapes, hyperparameters, 1.0, 1)
    start = replace(start, tables={name: 50 * table for name, table in start.tables.items()})
    users, items = fold(form, start.tables, features)
    triples = np.array([[0, 1], [0, 1], [2, 5], [3, 4], [4, 2]], np.int32)
    hardest = [triples[2:, at][(users[at] @ items[triples[2:, at]].T).argmax()] for at in (0, 1)]
    trainer = PairwiseTrainer(shapes, hyperparameters, None)
    trainer.load(start)
    on_device = tf.constant(features) if form in ("shared", "full") else tf.zeros((6, 0))
    trainer.epoch(on_device, triples, np.int32(0))
    moved = (trainer.save(1.0, 1).tables["Q"] != start.tables["Q"]).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(moved), np.unique([0, 1, *hardest]))


def test_the_same_seed_gives_the_same_bytes(sampler):
    adversary = amf(ParameterAttack("pgd", 0.5, steps=2))
    start = large_start(SMALL)
    once, again = (train(SMALL, adversary, start, sampler)[0] for _ in range(2))
    for name in "PQ":
        np.testing.assert_array_equal(once.tables[name], again.tables[name])


def test_item_biases_start_at_zero_and_tables_have_no_projection():
    hyperparameters = replace(SMALL, form="mf_bias")
    shapes = table_shapes(N_USERS, N_ITEMS, 0, hyperparameters)
    assert shapes == ((N_USERS, 5), (N_ITEMS, 6))
    tables = initial_weights(shapes, hyperparameters, 1.0, 0).tables
    assert set(tables) == {"P", "Q"} and not tables["Q"][:, -1].any() and tables["P"].all()


def test_weights_without_a_projection_read_back(tmp_path):
    weights = large_start(SMALL)
    write_weights(tmp_path / "weights.npz", weights)
    read = read_weights(tmp_path / "weights.npz", ((N_USERS, None), (N_ITEMS, None)))
    for name in "PQ":
        np.testing.assert_array_equal(read.tables[name], weights.tables[name])
