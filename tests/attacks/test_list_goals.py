"""Goals of attacks on lists, the attacks that follow them, and the choice of items."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from src.artifacts.errors import UserError
from src.artifacts.experiments import LIST_OBJECTIVES, Experiment, Run
from src.artifacts.fidelity import FIDELITIES
from src.attacks.apgd import checkpoints_of
from src.attacks.goals import ClassGoal
from src.attacks.items import Items, popularity_thirds
from src.attacks.list_goals import RankGoal, list_goal, place_goal
from src.attacks.registry import APGD, FGSM, NES, PGD, SPSA, Annealed, MomentumFGSM, Square
from src.attacks.settings import AttackSettings
from src.attacks.square import side_of_square
from src.extractors.extractor import Prediction
from src.recommenders.audience import Audience, audience_of
from src.recommenders.delta import Changed
from tests.recommenders.test_delta import SCORES, by_hand, recommender
from tests.victims import FunctionVictim

CPU = torch.device("cpu")


def hand_audience(ids: list[int]) -> Audience:
    """Users read features by unit vectors: a feature is a user's score."""
    changed = by_hand(ids)
    thresholds, may_see = changed.thresholds()
    items = SCORES.T[ids].copy()
    hook = np.array([9, 9, 9], np.float32)
    return Audience(np.eye(3, dtype=np.float32), items, items, thresholds.T, may_see.T, hook)


def predicted(features) -> Prediction:
    features = torch.as_tensor(features, dtype=torch.float32)
    return Prediction(features, features)


def test_thresholds_leave_the_item_itself_out():
    np.testing.assert_array_equal(hand_audience([3]).thresholds, [[2, 0.5, 1]])
    np.testing.assert_array_equal(hand_audience([0]).thresholds, np.float32([[1, 1.5, 0.9]]))


def test_the_smooth_count_and_its_slope_by_hand():
    goal = RankGoal.of(hand_audience([3]), CPU)
    goal = RankGoal(**{**vars(goal), "temperature": torch.ones(1, 1)})
    scores = torch.from_numpy(SCORES.T[[3]].copy()).requires_grad_()
    value = -goal(Prediction(scores, scores)).sum()
    assert 3 * value.item() == pytest.approx(1.4118, abs=1e-4)
    (slope,) = torch.autograd.grad(3 * value, scores)
    np.testing.assert_allclose(slope[0], [0.10499, 0.14915, 0.24938], atol=1e-5)


def test_exposure_counts_only_those_who_may_be_shown_the_item():
    goal = RankGoal.of(hand_audience([2]), CPU)  # user 1 has trained on item 2
    best = predicted([[9.0, 9, 9]])
    assert goal.exposure(best).item() == 1
    assert goal.exposure(predicted([[0, 9.0, 0]])).item() == 0
    assert goal.reached(best).item() and not goal.reached(predicted(SCORES.T[[2]])).item()
    demoted = list_goal("demote-rank", hand_audience([2]), CPU)
    assert demoted.achieved(best) < demoted.achieved(predicted([[0.0, 0, 0]]))


@pytest.fixture(scope="module")
def audience() -> Audience:
    return audience_of(*recommender(1.0), np.array([3, 7, 20]), 5)


@pytest.mark.parametrize("objective", [*LIST_OBJECTIVES, "demote-rank", "demote-insa"])
def test_slopes_are_finite_differences(audience, objective):
    goal = list_goal(objective, audience, CPU).to(torch.float64)
    features = torch.from_numpy(audience.features).double().requires_grad_()
    (slope,) = torch.autograd.grad(goal(Prediction(features, features)).sum(), features)
    step = 1e-5
    for column in range(features.shape[1]):
        moved = torch.zeros_like(features)
        moved[:, column] = step
        values = [goal(Prediction(at, at)) for at in (features + moved, features - moved)]
        difference = (values[0] - values[1]).detach() / (2 * step)
        np.testing.assert_allclose(slope[:, column], difference, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("objective", LIST_OBJECTIVES)
def test_rows_of_a_goal_are_the_goals_of_their_images(audience, objective):
    goal, features = list_goal(objective, audience, CPU), torch.from_numpy(audience.features)
    rows = torch.tensor([2, 0])
    part = goal[rows]
    prediction = Prediction(features, features)
    some = Prediction(features[rows], features[rows])
    np.testing.assert_allclose(part(some), goal(prediction)[rows], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(part.exposure(some), goal.exposure(prediction)[rows])


def test_clean_exposure_is_that_of_the_lists(audience):
    visual, data = recommender(1.0)
    users, items = visual.factors(data.features)
    scores = users @ items.T
    scores[tuple(data.interactions.train.T)] = -np.inf
    lists = np.argsort(-scores, axis=1)[:, :5]
    for row, item in enumerate([3, 7, 20]):
        shown = (lists == item).any(axis=1).sum() / audience.may_see[row].sum()
        assert RankGoal.of(audience, CPU).clean[row].item() == pytest.approx(shown, abs=1e-6)


class FeatureVictim:
    """Features are a linear function of six pixels."""

    box = (0.0, 1.0)
    networks = ()

    def __init__(self):
        torch.manual_seed(1)
        self.matrix = torch.randn(6, 6)

    def __call__(self, images):
        features = images.flatten(1) @ self.matrix
        return Prediction(features, features)


@pytest.mark.parametrize(
    "attack",
    [
        FGSM(40.0),
        PGD(40.0, random_start=False),
        PGD(40.0, norm="2"),
        MomentumFGSM(40.0),
        MomentumFGSM(40.0, norm="2"),
        APGD(40.0, nb_iter=30),
        APGD(40.0, nb_iter=30, norm="2"),
        Annealed(40.0),
        Annealed(40.0, norm="2"),
        SPSA(40.0, nb_iter=30, batch_size=16),
    ],
    ids=lambda attack: f"{type(attack).__name__}-{attack.norm}",
)
@pytest.mark.parametrize("objective", ["score", "rank"])
def test_every_attack_follows_goals_in_lists(audience, attack, objective):
    torch.manual_seed(0)
    victim, images = FeatureVictim(), torch.full((3, 1, 2, 3), 0.5)
    goal = list_goal(objective, audience, CPU)
    attacked = attack(victim, images, goal)
    change = (attacked - images).flatten(1)
    size = change.norm(dim=1) if attack.norm == "2" else change.abs().amax(dim=1)
    assert size.max() <= 40 / 255 + 1e-5
    if objective == "score" and isinstance(attack, APGD):
        return  # it keeps the point of most exposure, which may have a lower mean score
    assert (goal(victim(attacked)) < goal(victim(images))).all()
    assert attacked.min() >= 0 and attacked.max() <= 1


@pytest.fixture(scope="module")
def accounts() -> Audience:
    return audience_of(*recommender(1.0), np.array([3, 7, 20]), 5, at_most=50, with_rivals=True)


def test_places_are_those_of_the_lists(accounts):
    visual, data = recommender(1.0)
    users, items = visual.factors(data.features)
    ids = np.array([3, 7, 20])
    chosen = np.sort(np.random.default_rng(0).choice(200, 50, replace=False))
    changed = Changed(users, items, data.at_test_time, ids, 5)
    moved = data.features.copy()
    moved[ids] += 0.7
    goal = place_goal("rank", accounts, 5, CPU)
    for features in (data.features, moved):
        places = changed.places(visual.factors(features)[1][ids], chosen)
        prediction = predicted(features[ids])
        found = goal.places(goal.scored(prediction.features)[0]).numpy().T
        seen = ~np.isnan(places)
        # float32 sums of other shapes may order two nearly equal scores the other way.
        assert (found[seen] == places[seen]).mean() > 0.98
        counts = [(5 / (5 + found[of, n])).mean() for n, of in enumerate(seen.T)]
        np.testing.assert_allclose(goal.achieved(prediction), counts, rtol=1e-5)
    down = place_goal("demote-rank", accounts, 5, CPU)
    np.testing.assert_array_equal(down(predicted(moved[ids])), -goal(predicted(moved[ids])))


def test_places_have_no_slope(accounts):
    features = torch.from_numpy(accounts.features).requires_grad_()
    assert not place_goal("rank", accounts, 5, CPU)(Prediction(features, features)).requires_grad


@pytest.mark.parametrize(
    ("attack", "queries"),
    [(NES(40.0, queries=200, pairs=9), 10 * 19), (Square(40.0, queries=200), 200)],
    ids=["nes", "square"],
)
def test_searches_climb_by_places_alone_within_their_queries(accounts, attack, queries):
    goal, images = place_goal("rank", accounts, 5, CPU), torch.full((3, 1, 2, 3), 0.5)
    network = FeatureVictim()
    victim = FunctionVictim(lambda points: points.flatten(1) @ network.matrix)

    def search(seed: int) -> torch.Tensor:
        torch.manual_seed(seed)
        return attack(victim, images, goal)

    found = search(0)
    assert victim.passes == 3 * queries
    assert (found - images).abs().max() <= 40 / 255 + 1e-6
    assert (goal(victim(found)) < goal(victim(images))).all()
    assert torch.equal(found, search(0))


@pytest.mark.parametrize("attack", [NES(30.0, queries=400), Square(30.0, queries=100)])
def test_searches_reach_classes_by_the_goals_value(attack):
    torch.manual_seed(0)
    matrix = torch.randn(3 * 6 * 6, 4)
    victim = FunctionVictim(lambda images: images.flatten(1) @ matrix)
    images = torch.full((5, 3, 6, 6), 0.5)
    goal = ClassGoal(torch.tensor([0, 1, 2, 3, 0]))
    found = attack(victim, images, goal)
    assert (goal(victim(found)) < goal(victim(images))).all()
    assert (found - images).abs().max() <= 30 / 255 + 1e-6


def test_the_count_of_places_by_hand():
    scores = SCORES.T[[3]].copy()  # places 4, 2 and 3 among the items
    accounts = replace(hand_audience([3]), rivals=np.sort(SCORES, axis=1))
    for objective, sign in (("rank", 1), ("demote-rank", -1)):
        goal = place_goal(objective, accounts, 2, CPU)
        found = goal.places(goal.scored(predicted(scores).features)[0])
        assert found.tolist() == [[4, 2, 3]]
        count = (2 / 6 + 2 / 4 + 2 / 5) / 3
        assert goal.achieved(predicted(scores)).item() == pytest.approx(sign * count)
        assert goal(predicted(scores)).item() == pytest.approx(-sign * count)


def test_nes_averages_its_slopes_over_steps():
    """One pair of probes tells next to nothing of 48 pixels; the mean of many steps finds the corner."""
    slopes = torch.randn(48, generator=torch.Generator().manual_seed(3))

    def linear(images: torch.Tensor) -> torch.Tensor:
        score = (images - 0.5).flatten(1) @ slopes
        return torch.stack([-score, score], dim=1)

    victim, images = FunctionVictim(linear), torch.full((4, 3, 4, 4), 0.5)
    goal = ClassGoal(torch.ones(4, dtype=torch.int64))
    torch.manual_seed(0)
    found = NES(20.0, queries=600, pairs=2)(victim, images, goal)
    rise = (found - images).flatten(1) @ slopes
    assert (rise > 0.75 * 20 / 255 * slopes.abs().sum()).all()


def test_squares_shrink_as_queries_are_spent():
    sides = [side_of_square(spent, 100, 100) for spent in (0, 0.0011, 0.006, 0.021, 0.3, 0.9)]
    # Shares .8, .4, .2, .1, .8 / 64 and .8 / 512 of 10,000 pixels.
    assert sides == [89, 63, 45, 32, 11, 4]
    assert side_of_square(0.9, 5, 5) == 1 and side_of_square(0, 3, 200) == 3


def test_searches_are_told_places_alone():
    settings = AttackSettings("nes", NES(), target=None, objective="score")
    with pytest.raises(UserError, match="told places alone"):
        settings.check(FIDELITIES["corrected"])
    replace(settings, objective="demote-rank").check(FIDELITIES["corrected"])
    with pytest.raises(UserError, match="one step's, 65"):
        NES(queries=64).check("nes")


@pytest.mark.parametrize("attack", [APGD, Annealed])
def test_the_best_point_is_kept_at_the_corner_of_a_linear_goal(audience, attack):
    victim, images = FeatureVictim(), torch.full((3, 1, 2, 3), 0.5)
    goal = list_goal("score", audience, CPU)
    eps = 20.0
    points = images.clone().requires_grad_()
    (slope,) = torch.autograd.grad(goal(victim(points)).sum(), points)
    corner = images - eps / 255 * slope.sign()
    torch.manual_seed(0)
    found = attack(eps, nb_iter=20)(victim, images, goal)
    assert (goal.achieved(victim(found)) >= goal.achieved(victim(corner)) - 1e-9).all()


def test_steps_become_shorter_and_each_costs_a_pass():
    centre = torch.rand(1, 3, 4, 4)
    looked: list[torch.Tensor] = []

    def away(images):
        looked.append(images.detach())
        # The slope turns round at every step, so that no step is cut by the ball.
        return (-1) ** len(looked) * images.flatten(1)[:, :3]

    victim = FunctionVictim(away, box=None)
    goal = list_goal("score", hand_audience([3]), CPU)
    attack = Annealed(9.0, nb_iter=12, random_start=False)
    attack(victim, centre, goal)
    assert len(looked) == attack.passes == 13
    moved = [(after - before).abs().max().item() for before, after in itertools.pairwise(looked)]
    assert moved[-1] < moved[0] / 10 and max(moved) <= 9 / 255 + 1e-6


def test_checkpoints_come_closer():
    assert sorted(checkpoints_of(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def test_names_are_read_back():
    for name in (
        "apgd_774_rank_eps8.0_nb_iter100_linf_VBPR-ep100-lr0.05",
        "free_adv_pgd_774_demote-score_eps8.0_eps_it8.0_nb_it10_linf_AMR-ep50",
        "pgd_random64_770_eps8.0_eps_it8.0_nb_it10_linf_low",
        "pgd_ids-mine_any_eps8.0_eps_it8.0_nb_it10_linf",
    ):
        assert Experiment.parse(name).name == name
    ranked = Experiment.parse("apgd_774_rank_eps8.0_nb_iter100_linf_VBPR-ep100-lr0.05")
    assert (ranked.origin, ranked.target, ranked.objective) == (774, None, "rank")
    drawn = Experiment.parse("pgd_random64_770_eps8.0_eps_it8.0_nb_it10_linf_low")
    assert (drawn.origin, drawn.target, drawn.items) == (None, 770, "random64")
    run = f"{ranked.name}_top150_ep100_VBPR_testtime_lr0.05_seed2"
    assert Run.parse(run).experiment == ranked and Run.parse(run).name == run


def test_items_are_drawn_from_a_class_a_third_or_the_catalogue(tmp_path):
    interactions = np.array([5, 0, 1, 9, 2, 7, 3, 0, 8])
    groups = popularity_thirds(interactions)
    np.testing.assert_array_equal(np.flatnonzero(groups == "low"), [2, 4, 6])
    np.testing.assert_array_equal(np.flatnonzero(groups == "cold"), [1, 7])
    of_class = np.array([8, 2, 3])
    np.testing.assert_array_equal(Items().choose(of_class, interactions), [2, 3, 8])
    high = Items(popularity="high").choose(of_class, interactions)
    np.testing.assert_array_equal(high, [3, 8])
    drawn = Items("random", 4).choose(of_class, interactions)
    assert len(np.unique(drawn)) == 4
    np.testing.assert_array_equal(drawn, Items("random", 4).choose(of_class, interactions))
    (tmp_path / "chosen.txt").write_text("7\n0\n")
    chosen = Items("file", file=str(tmp_path / "chosen.txt"))
    np.testing.assert_array_equal(chosen.choose(of_class, interactions), [0, 7])
    assert chosen.name == "ids-chosen"
    with pytest.raises(UserError, match="2 items fit"):
        Items("class", 3, popularity="high").choose(of_class, interactions)
    (tmp_path / "chosen.txt").write_text("9\n")
    with pytest.raises(UserError, match="item 9 is not in the catalogue of 9"):
        chosen.choose(of_class, interactions)
