"""Attacks on parameters against TensorFlow and brute force, and promises of all of them.

The reference below computes the score of each form as in the papers, from shifted tables and features,
and the tape differentiates the loss with respect to the shifts.
"""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.artifacts.errors import UserError
from src.datasets.interactions import Interactions
from src.recommenders.pairwise_loss import ExpectedNegatives, FixedNegatives, SampledNegatives
from src.recommenders.parameter_attack import ParameterAttack, parameters_of, shifted
from src.recommenders.sampling import TripleSampler
from src.recommenders.scores import fold

N_USERS, N_ITEMS, N_FEATURES, FACTORS = 9, 12, 17, 4
FORMS = ("mf", "mf_bias", "shared", "full")
EPSILON = 0.3


@pytest.fixture(scope="module")
def interactions() -> Interactions:
    """Interactions in which user 4 has none, and item 11 is cold."""
    has = np.random.default_rng(1).random((N_USERS, N_ITEMS)) < 0.35
    has[4] = has[:, 11] = False
    has[np.arange(N_USERS) != 4, 0] = True
    return Interactions(np.argwhere(has), np.empty((0, 2), np.int64), N_USERS, N_ITEMS)


@pytest.fixture(scope="module")
def sampler(interactions) -> TripleSampler:
    return TripleSampler.of(interactions)


@pytest.fixture
def fixed(sampler) -> FixedNegatives:
    return FixedNegatives(sampler.epoch(0, 0))


def tables_of(form: str, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    k = FACTORS
    shapes = {
        "mf": {"P": (N_USERS, k), "Q": (N_ITEMS, k)},
        "mf_bias": {"P": (N_USERS, k), "Q": (N_ITEMS, k + 1)},
        "shared": {"P": (N_USERS, k), "Q": (N_ITEMS, k), "E": (N_FEATURES, k)},
        "full": {"P": (N_USERS, 2 * k), "Q": (N_ITEMS, k + 1), "E": (N_FEATURES, k + 1)},
    }[form]
    return {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}


def features_of(form: str) -> np.ndarray | None:
    if form in ("mf", "mf_bias"):
        return None
    return np.random.default_rng(7).random((N_ITEMS, N_FEATURES), np.float32)


def recommender(form: str):
    """Return folded users and items, and the parameters that can be attacked."""
    tables = tables_of(form)
    return *fold(form, tables, features_of(form)), parameters_of(form, tables)


def lengths(shift: np.ndarray) -> np.ndarray:
    return np.linalg.norm(shift.astype(float), axis=1)


def assert_untouched(rows: np.ndarray) -> None:
    assert rows.size and not rows.any()


def margin(form, p, q, e, f, triples):
    """Compute s_ui - s_uj of every triple, from float64 tensors."""
    tf = pytest.importorskip("src.recommenders.quiet_tensorflow").tf
    k = FACTORS

    def score(of_items):
        p_u, q_i = tf.gather(p, triples[0]), tf.gather(q, of_items)
        s = tf.reduce_sum(p_u[:, :k] * q_i[:, :k], 1)
        if form in ("mf_bias", "full"):
            s += q_i[:, k]
        if form == "shared":
            s += tf.reduce_sum(p_u * (tf.gather(f, of_items) @ e), 1)
        if form == "full":
            visual = tf.gather(f, of_items) @ e
            s += tf.reduce_sum(p_u[:, k:] * visual[:, :k], 1) + visual[:, k]
        return s

    return score(triples[1]) - score(triples[2])


def tape_gradients(form, shifts, triples) -> dict[str, np.ndarray]:
    """Compute gradients of the loss with respect to each shift, in double precision."""
    tf = pytest.importorskip("src.recommenders.quiet_tensorflow").tf
    tables = {name: table.astype(float) for name, table in tables_of(form).items()}
    if "E" in tables:
        tables["features"] = features_of(form).astype(float)
    shifts = {name: tf.constant(shift, tf.float64) for name, shift in shifts.items()}
    with tf.GradientTape() as tape:
        tape.watch(shifts)
        at = {name: table + shifts.get(name, 0) for name, table in tables.items()}
        margins = margin(form, at["P"], at["Q"], at.get("E"), at.get("features"), triples)
        loss = tf.reduce_sum(tf.math.softplus(-margins))
    gradients = tape.gradient(loss, shifts)
    return {name: tf.convert_to_tensor(g).numpy() for name, g in gradients.items()}


@pytest.mark.parametrize("form", FORMS)
def test_gradients_of_all_parameters_equal_the_tape(form, fixed):
    """A perturbed point also tests the map of shifts into the folded matrices."""
    users, items, parameters = recommender(form)
    noise = ParameterAttack("random", epsilon=0.7)
    attacked = noise(users, items, parameters, fixed, np.random.default_rng(0))
    of_folded = dict(
        zip(("users", "items"), fixed.gradient(attacked.users, attacked.items), strict=True)
    )
    expected = tape_gradients(form, attacked.shifts, fixed.triples)
    assert set(parameters) == set(expected)
    for name, parameter in parameters.items():
        ours = parameter.gradient(of_folded[parameter.side])
        assert ours.dtype == np.float32
        np.testing.assert_allclose(
            ours, expected[name], atol=1e-6 * max(1, np.abs(expected[name]).max())
        )


@pytest.mark.parametrize("form", FORMS)
def test_one_step_goes_along_each_rows_gradient(form, fixed):
    users, items, parameters = recommender(form)
    attacked = ParameterAttack("fgsm", EPSILON)(
        users, items, parameters, fixed, np.random.default_rng(0)
    )
    zeros = {name: np.zeros(shift.shape) for name, shift in attacked.shifts.items()}
    for name, gradient in tape_gradients(form, zeros, fixed.triples).items():
        norms = lengths(gradient)[:, None]
        expected = EPSILON * np.divide(gradient, norms, np.zeros(gradient.shape), where=norms > 0)
        np.testing.assert_allclose(attacked.shifts[name], expected, atol=1e-6)
        np.testing.assert_allclose(
            lengths(attacked.shifts[name]), np.where(norms[:, 0] > 0, EPSILON, 0), atol=1e-6
        )
    assert_untouched(attacked.shifts["P"][4])
    assert_untouched(attacked.shifts["Q"][11])


@pytest.mark.parametrize("form", FORMS)
def test_shifted_tables_fold_to_what_the_attack_returns(form, fixed):
    users, items, parameters = recommender(form)
    attacked = ParameterAttack("pgd", EPSILON, steps=3)(
        users, items, parameters, fixed, np.random.default_rng(0)
    )
    tables = {
        name: table + attacked.shifts.get(name, np.float32(0))
        for name, table in tables_of(form).items()
    }
    features = features_of(form)
    if features is not None:
        features = features + attacked.shifts["features"]
    expected_users, expected_items = fold(form, tables, features)
    np.testing.assert_allclose(attacked.users, expected_users, atol=1e-6)
    np.testing.assert_allclose(attacked.items, expected_items, atol=1e-5)
    assert attacked.users.dtype == attacked.items.dtype == np.float32
    assert all(shift.dtype == np.float32 for shift in attacked.shifts.values())


@pytest.mark.parametrize("projection", ("l2", "box"))
@pytest.mark.parametrize("form", ("mf_bias", "full"))
def test_many_steps_equal_brute_force(form, projection, fixed):
    users, items, parameters = recommender(form)
    attack = ParameterAttack("bim", EPSILON, 6, 0.13, projection)
    attacked = attack(users, items, parameters, fixed, np.random.default_rng(0))
    shifts = {name: np.zeros(shift.shape) for name, shift in attacked.shifts.items()}
    for _ in range(6):
        for name, gradient in tape_gradients(form, shifts, fixed.triples).items():
            for row, g in zip(shifts[name], gradient, strict=True):
                row += 0.13 * g / max(np.linalg.norm(g), 1e-6)
                if projection == "box":
                    row[:] = np.clip(row, -EPSILON, EPSILON)
                elif np.linalg.norm(row) > EPSILON:
                    row *= EPSILON / np.linalg.norm(row)
    for name, shift in shifts.items():
        np.testing.assert_allclose(attacked.shifts[name], shift, atol=2e-5)


def test_attack_on_fixed_triples_equals_a_loop_over_them(fixed):
    users, items, parameters = recommender("mf")
    p, q = (matrix.astype(float) for matrix in (users, items))
    of_p, of_q = np.zeros(p.shape), np.zeros(q.shape)
    for u, i, j in fixed.triples.T:
        c = -1 / (1 + np.exp(p[u] @ q[i] - p[u] @ q[j]))
        of_p[u] += c * (q[i] - q[j])
        of_q[i] += c * p[u]
        of_q[j] -= c * p[u]
    expected = [0.5 * g / np.maximum(lengths(g), 1e-6)[:, None] for g in (of_p, of_q)]
    attacked = ParameterAttack()(users, items, parameters, fixed, np.random.default_rng(0))
    np.testing.assert_allclose(attacked.shifts["P"], expected[0], atol=1e-6)
    np.testing.assert_allclose(attacked.shifts["Q"], expected[1], atol=1e-6)
    np.testing.assert_allclose(
        attacked.users @ attacked.items.T, (p + expected[0]) @ (q + expected[1]).T, atol=1e-5
    )


@given(
    st.sampled_from(("fgsm", "bim", "pgd", "random")),
    st.sampled_from(("l2", "box")),
    st.sampled_from(FORMS),
    st.just(0) | st.floats(1e-4, 20),
    st.integers(1, 6),
    st.none() | st.floats(1e-3, 50),
    st.integers(0, 5),
)
def test_no_row_leaves_its_budget(kind, projection, form, epsilon, steps, step_size, seed):
    users, items, parameters = recommender(form)
    rng = np.random.default_rng(seed)
    triples = np.stack([rng.integers(0, n, 30) for n in (N_USERS, N_ITEMS, N_ITEMS)])
    attack = ParameterAttack(kind, epsilon, steps, step_size, projection)
    attacked = attack(users, items, parameters, FixedNegatives(triples), rng)
    for shift in attacked.shifts.values():
        size = np.abs(shift).max(axis=1) if attack.projection == "box" else lengths(shift)
        assert (size <= epsilon * (1 + 1e-6)).all()


@pytest.mark.parametrize("projection", ("l2", "box"))
def test_one_step_of_bim_as_long_as_its_budget_is_fgsm(projection, fixed):
    model = recommender("full")
    bim = ParameterAttack("bim", EPSILON, 1, EPSILON, projection)
    fgsm = ParameterAttack("fgsm", EPSILON)
    of_bim, of_fgsm = (a(*model, fixed, np.random.default_rng(0)) for a in (bim, fgsm))
    for name, shift in of_fgsm.shifts.items():
        np.testing.assert_allclose(of_bim.shifts[name], shift, atol=1e-7)
    np.testing.assert_allclose(of_bim.items, of_fgsm.items, atol=1e-6)


def test_random_control_has_the_budgets_length_and_ignores_the_loss(fixed):
    model = recommender("shared")
    attack = ParameterAttack("random", EPSILON)
    one = attack(*model, fixed, np.random.default_rng(3))
    other = attack(*model, FixedNegatives(fixed.triples[[0, 2, 1]]), np.random.default_rng(3))
    for name, shift in one.shifts.items():
        np.testing.assert_allclose(lengths(shift), EPSILON, rtol=1e-6)
        np.testing.assert_array_equal(shift, other.shifts[name])
    assert (one.shifts["P"] != attack(*model, fixed, np.random.default_rng(4)).shifts["P"]).all()


def test_random_directions_are_uniform_over_the_sphere(fixed):
    """The mean direction is 0 and coordinates have equal shares of the squared length."""
    users, items, parameters = recommender("mf")
    rng, attack = np.random.default_rng(0), ParameterAttack("random", 1.0)
    rows = np.concatenate(
        [attack(users, items, parameters, fixed, rng).shifts["Q"] for _ in range(500)]
    )
    assert np.abs(rows.mean(axis=0)).max() < 0.03
    np.testing.assert_allclose((rows**2).mean(axis=0), 1 / FACTORS, rtol=0.05)


@pytest.mark.parametrize("projection", ("l2", "box"))
def test_pgd_starts_anywhere_in_the_budget(projection, fixed):
    """With negligible steps, its shifts are uniform over the ball or the box."""
    users, items, parameters = recommender("mf")
    attack = ParameterAttack("pgd", 2.0, 1, 1e-9, projection)
    rng = np.random.default_rng(0)
    rows = np.concatenate(
        [attack(users, items, parameters, fixed, rng).shifts["Q"] for _ in range(500)]
    )
    assert np.abs(rows.mean(axis=0)).max() < 0.1
    sizes = lengths(rows) if projection == "l2" else np.abs(rows).max(axis=1)
    # The share of the budget within a fraction r of it is r ** dimension.
    np.testing.assert_allclose(
        np.quantile((sizes / 2) ** FACTORS, (0.25, 0.5, 0.75)), (0.25, 0.5, 0.75), atol=0.03
    )


@pytest.mark.parametrize("kind", ("fgsm", "bim", "pgd", "random"))
@pytest.mark.parametrize("chosen", ("P", "Q", "features"))
def test_parameters_that_are_not_chosen_stay(kind, chosen, fixed):
    users, items, parameters = recommender("full")
    only = {chosen: parameters[chosen]}
    attacked = ParameterAttack(kind, EPSILON)(users, items, only, fixed, np.random.default_rng(0))
    assert set(attacked.shifts) == {chosen}
    width = FACTORS + 1
    parts = {
        "P": (attacked.users != users)[:, [0, 1, 2, 3, 5, 6, 7, 8]],
        "Q": (attacked.items != items)[:, :width],
        "features": (attacked.items != items)[:, width:],
    }
    assert not (attacked.users != users)[:, [FACTORS, 2 * FACTORS + 1]].any()  # constants
    for name, moved in parts.items():
        assert moved.any() == (name == chosen)


@pytest.mark.parametrize("kind", ("fgsm", "bim", "pgd", "random"))
def test_only_attacked_users_move(kind, fixed, interactions, sampler):
    users, items, parameters = recommender("shared")
    attacked_users, spared = np.array([7, 2]), np.array([0, 1, 3, 4, 5, 6, 8])
    attack = ParameterAttack(kind, EPSILON)
    expected = ExpectedNegatives(interactions, sampler.candidate_items)
    for loss in (fixed, SampledNegatives(sampler, 0), expected):
        rng = np.random.default_rng(0)
        attacked = attack(users, items, parameters, loss, rng, attacked_users)
        assert_untouched(attacked.shifts["P"][spared])
        assert (lengths(attacked.shifts["P"][attacked_users]) > 0).all()
    if kind in ("fgsm", "bim"):  # no start or control of rows that the users' triples do not hold
        triples = fixed.triples[:, np.isin(fixed.triples[0], attacked_users)]
        touched = np.isin(np.arange(N_ITEMS), triples[1:])
        attacked = attack(users, items, parameters, fixed, rng, attacked_users)
        assert_untouched(attacked.shifts["Q"][~touched])
        assert (lengths(attacked.shifts["features"][touched]) > 0).all()
        alone = attack(users, items, parameters, FixedNegatives(triples), rng)
        np.testing.assert_array_equal(alone.items, attacked.items)


@pytest.mark.parametrize("kind", ("fgsm", "bim", "pgd", "random"))
def test_same_seeds_same_attack_and_inputs_stay(kind, sampler):
    users, items, parameters = recommender("full")
    kept = users.copy(), items.copy()
    users.flags.writeable = items.flags.writeable = False
    attack, loss = ParameterAttack(kind, EPSILON, steps=4), SampledNegatives(sampler, 9)
    one, two = (attack(users, items, parameters, loss, np.random.default_rng(1)) for _ in range(2))
    np.testing.assert_array_equal(one.users, two.users)
    np.testing.assert_array_equal(one.items, two.items)
    np.testing.assert_array_equal(users, kept[0])
    np.testing.assert_array_equal(items, kept[1])


def test_every_step_meets_a_fresh_draw(sampler):
    users, items, parameters = recommender("mf")
    attack = ParameterAttack("bim", EPSILON, steps=2, step_size=0.1)
    sampled = attack(
        users, items, parameters, SampledNegatives(sampler, 3), np.random.default_rng(0)
    )
    step = ParameterAttack("fgsm", 0.1)
    at = users, items
    for draw in range(2):
        drawn = FixedNegatives(sampler.epoch(3, draw))
        moved = step(*at, parameters, drawn, np.random.default_rng(0))
        at = moved.users, moved.items
    np.testing.assert_allclose(sampled.users, at[0], atol=1e-6)
    np.testing.assert_allclose(sampled.items, at[1], atol=1e-6)


def test_attacks_raise_the_loss_and_the_control_hardly_does(fixed):
    users, items, parameters = recommender("full")

    def loss(attacked) -> float:
        u, i, j = fixed.triples
        margins = np.einsum("nd,nd->n", attacked.users[u], attacked.items[i] - attacked.items[j])
        return np.logaddexp(0, -margins).sum()

    losses = {}
    for kind in ("random", "fgsm", "bim"):
        attack = ParameterAttack(kind, EPSILON, steps=40, step_size=0.05)
        losses[kind] = loss(attack(users, items, parameters, fixed, np.random.default_rng(0)))
    still = ParameterAttack(epsilon=0)(users, items, parameters, fixed, np.random.default_rng(0))
    np.testing.assert_array_equal(still.users, users)
    assert losses["bim"] > losses["fgsm"] > 1.5 * loss(still)
    assert losses["random"] < 0.5 * (loss(still) + losses["fgsm"])


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", ("fgsm", "bim", "pgd"))
def test_large_scores_give_finite_attacks(kind, fixed, interactions, sampler):
    users, items, parameters = recommender("mf")
    for loss in (fixed, ExpectedNegatives(interactions, sampler.candidate_items)):
        attacked = ParameterAttack(kind, 2.0, steps=3)(
            200 * users, 200 * items, parameters, loss, np.random.default_rng(0)
        )
        assert all(np.isfinite(shift).all() for shift in attacked.shifts.values())


def test_shifts_of_one_model_can_be_put_on_another(fixed):
    users, items, parameters = recommender("mf_bias")
    attacked = ParameterAttack("bim", EPSILON)(
        users, items, parameters, fixed, np.random.default_rng(0)
    )
    others = fold("mf_bias", tables_of("mf_bias", seed=5), None)
    moved = shifted(*others, parameters, attacked.shifts)
    np.testing.assert_allclose(moved[0] - others[0], attacked.users - users, atol=1e-6)
    np.testing.assert_allclose(moved[1] - others[1], attacked.items - items, atol=1e-6)


def test_numbers_of_numpy_keep_float32(fixed):
    attack = ParameterAttack("pgd", np.float64(0.5), np.int64(2), np.float64(0.1))
    attacked = attack(*recommender("mf"), fixed, np.random.default_rng(0))
    assert attacked.users.dtype == attacked.shifts["Q"].dtype == np.float32


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "fgsm_eps0.5"),
        ({"epsilon": 2, "projection": "box", "steps": 3, "step_size": 9}, "fgsm_eps2"),
        ({"kind": "random", "epsilon": 0.05}, "random_eps0.05"),
        ({"kind": "bim", "projection": "box"}, "bim25_eps0.5_box"),
        ({"kind": "pgd", "steps": 10, "epsilon": 1.0}, "pgd10_eps1"),
        ({"kind": "bim", "step_size": 0.125}, "bim25_eps0.5"),
        ({"kind": "bim", "step_size": 0.2, "projection": "box"}, "bim25_eps0.5_step0.2_box"),
    ],
)
def test_name(settings, name):
    assert ParameterAttack(**settings).name == name


def test_attacks_that_do_the_same_are_equal():
    assert ParameterAttack("fgsm", 1, 10, 0.1, "box") == ParameterAttack("fgsm", 1)
    assert ParameterAttack("bim", 1, 10) == ParameterAttack("bim", 1, 10, 0.25)
    assert ParameterAttack("bim", 1, 10) != ParameterAttack("pgd", 1, 10)
    assert replace(ParameterAttack("random", 1), epsilon=2) == ParameterAttack("random", 2)
    assert (ParameterAttack().steps, ParameterAttack(epsilon=2).step_size) == (1, 2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "cw"}, "no attack 'cw'"),
        ({"projection": "l1"}, "no projection 'l1'"),
        ({"epsilon": -1}, "epsilon must not be negative"),
        ({"epsilon": float("nan")}, "epsilon must not be negative"),
        ({"epsilon": float("inf")}, "epsilon must not be negative"),
        ({"kind": "bim", "steps": 0}, "bim takes at least one step"),
        ({"kind": "pgd", "step_size": 0}, "step must be a number above 0"),
        ({"kind": "pgd", "step_size": float("nan")}, "step must be a number above 0"),
    ],
)
def test_what_cannot_be_run_is_said(settings, message):
    with pytest.raises(UserError, match=message):
        ParameterAttack(**settings)


def test_attacking_loads_no_framework():
    code = (
        "import sys, src.recommenders.parameter_attack; "
        "sys.exit(any(name in sys.modules for name in ('tensorflow', 'torch')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
