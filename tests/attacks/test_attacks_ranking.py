import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.attacks.profiles import COMPAT, PROFILES, AttackSpec, parse_attack
from src.attacks.ranking import aims, objectives, scores
from src.attacks.ranking.aims import Aim
from src.attacks.ranking.descent import NES, Descent
from src.attacks.ranking.evaluation import Ranker, RankingTask, choose_positions
from src.attacks.ranking.gallery import Gallery
from src.attacks.ranking.kinds import KINDS, build_ranking_attack
from src.datasets.image_set import ImageArray, ImageSet

CORRECT, PAPER = COMPAT["correct"], COMPAT["paper"]
N, G, D = 5, 40, 6
ATTACKS = """
CA:pm=+:W=1 CA:pm=-:W=1 CA:pm=+:W=3 QA:pm=+:M=1 QA:pm=-:M=1 QA:pm=-:M=3 SPQA:pm=+ SPQA:pm=-:M=2
TMA ES LTM GTM GTT FOA:M=2 FOA:M=4
"""
SPECS = [parse_attack(text) for text in ATTACKS.split()]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def gallery() -> Gallery:
    """Gallery of 40 points in 4 classes of unlike sizes, one of them a single image."""
    points = functional.normalize(torch.randn(G, D, generator=generator(1)))
    classes = torch.randint(3, (G,), generator=generator(2))
    classes[-1] = 3
    return Gallery(points, classes)


@pytest.fixture
def own() -> Tensor:
    return torch.tensor([0, 7, 12, 30, G - 1])


@pytest.fixture
def embeddings() -> Tensor:
    """Embeddings of attacked images."""
    return functional.normalize(torch.randn(N, D, generator=generator(3)))


def distance(a: Tensor, b: Tensor) -> float:
    return float((a.double() - b.double()).norm())


def hinge(value: float) -> float:
    return max(0.0, value)


def mean(values) -> float:
    return float(np.mean(list(values)))


# Text and profiles.


@pytest.mark.parametrize("profile", PROFILES)
def test_profiles_are_attacks_that_their_text_names(profile):
    for spec in PROFILES[profile]:
        again = parse_attack(str(spec))
        assert str(again) == str(spec)
        assert (again.kind, again.pm, again.size) == (spec.kind, spec.pm, spec.size)
        assert again.eps == pytest.approx(spec.eps, abs=1e-6)
        assert again.step == pytest.approx(spec.step, abs=1e-6)
    assert len(set(map(str, PROFILES[profile]))) == len(PROFILES[profile])


def test_profiles_have_the_published_budgets():
    texts = {name: [str(spec) for spec in specs] for name, specs in PROFILES.items()}
    assert texts["rob28"][0] == "CA:pm=+:W=1:eps=77/255:alpha=3/255:pgditer=32"
    assert texts["rob224"][-1] == "GTT:eps=8/255:alpha=3/255:pgditer=32"
    assert len(texts["rob28"]) == len(texts["rob224"]) == 9
    assert "CA:pm=-:W=10:eps=2/255:alpha=1/255:pgditer=32" in texts["pami224"]
    assert {round(255 * spec.eps) for spec in PROFILES["qccurve28"]} == set(range(0, 78, 7))


def test_text_is_read_as_written():
    spec = parse_attack("SPQA:pm=-:M=5:eps=0.03:alpha=1/255:pgditer=10:balance=2e4:restarts=3")
    assert spec == AttackSpec("SPQA", "-", 5, 0.03, 1 / 255, 10, restarts=3, balance=2e4)
    assert spec.title == "SPQA-"
    assert parse_attack("ES") == AttackSpec("ES", eps=8 / 255, step=3 / 255, steps=32)
    assert parse_attack("ES:eps=8/255:pgditer=1").step == 8 / 255  # FGSM


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("XY", "no such kind"),
        ("CA", "pm"),
        ("CA:pm=x:W=1", "pm"),
        ("ES:pm=+", "no pm"),
        ("ES:M=2", "no W or M"),
        ("CA:pm=+:M=1", "CA has W"),
        ("QA:pm=+:W=1", "CA has W"),
        ("FOA:M=1", "two candidates"),
        ("ES:eps=8", "fractions"),
        ("ES:eps=-1/255", "fractions"),
        ("ES:eps=nan", "fractions"),
        ("ES:eps=x", "'x' is no value of eps"),
        ("ES:eps=8/0", "no value of eps"),
        ("ES:alpha=0", "fractions"),
        ("ES:pgditer=0", "at least 1"),
        ("ES:pgditer=1.5", "no value of pgditer"),
        ("ES:steps=3", "expected key=value"),
        ("ES:eps", "expected key=value"),
        ("ES:eps=1/255:eps=2/255", "twice"),
        ("ES:start=cold", "start must be"),
        ("SPQA:pm=+:balance=-1", "balance"),
    ],
)
def test_wrong_text_is_one_line(text, problem):
    with pytest.raises(UserError, match=problem):
        parse_attack(text)


# Aims of attacks.


def ranking(gallery: Gallery, own: int, point: Tensor | None = None) -> list[int]:
    """Return the other images by ascending distance."""
    point = gallery.embeddings[own] if point is None else point
    others = [x for x in range(len(gallery)) if x != own]
    return sorted(others, key=lambda x: distance(point, gallery.embeddings[x]))


def test_uniform_choices_reach_all_but_oneself(gallery, own):
    drawn = aims.random_images(2000)(gallery, own, generator())
    for row, position in zip(drawn.items, own, strict=True):
        counts = row.bincount(minlength=G)
        assert counts[position] == 0
        assert sorted(row.unique().tolist()) == [x for x in range(G) if x != position]
        assert counts[counts > 0].min() > 20
    kept = aims.random_images(1, keep_top=True)(gallery, own, generator()).kept
    for row, position in zip(kept, own.tolist(), strict=True):
        assert row.tolist() == ranking(gallery, position)[:5]


def test_choices_from_the_top_are_near_and_different():
    points = functional.normalize(torch.randn(500, D, generator=generator()))
    gallery = Gallery(points, torch.arange(500) % 3)
    own = torch.arange(0, 500, 50)
    chosen = set()
    for seed in range(30):
        aim = aims.top_images(2)(gallery, own, generator(seed))
        for row, position in zip(aim.items.tolist(), own.tolist(), strict=True):
            assert set(row) <= set(ranking(gallery, position)[:5])  # 1 % of 500
            assert len(set(row)) == 2
        chosen |= set(aim.items[0].tolist())
    assert chosen == set(ranking(gallery, 0)[:5])

    aim = aims.top_images(2, keep_rest=True)(gallery, own, generator())
    for row, kept, position in zip(aim.items.tolist(), aim.kept, own.tolist(), strict=True):
        top = ranking(gallery, position)[:7]
        assert set(row) <= set(top)
        assert kept.tolist() == [x for x in top if x not in row]


def test_two_candidates_are_to_change_places(gallery, own):
    aim = aims.reordered_top_images(2)(gallery, own, generator())
    for row, position in zip(aim.items.tolist(), own.tolist(), strict=True):
        assert row == sorted(row, key=ranking(gallery, position).index, reverse=True)
    assert aims.reordered_top_images(3)(gallery, own, generator()).items.shape == (N, 3)


def test_greedy_targets_are_the_nearest(gallery, own):
    top = aims.nearest(gallery, own, generator()).items
    unmatching = aims.nearest_unmatching(gallery, own, generator()).items
    for position, first, other in zip(own.tolist(), top.tolist(), unmatching.tolist(), strict=True):
        order = ranking(gallery, position)
        assert first == order[:1]
        strangers = [x for x in order if gallery.classes[x] != gallery.classes[position]]
        assert other == strangers[:1]


def test_the_published_gtm_takes_an_index_of_the_subset(gallery, own):
    aimed = aims.nearest_unmatching_as_published(gallery, own, generator()).items
    for position, index in zip(own.tolist(), aimed[:, 0].tolist(), strict=True):
        order = ranking(gallery, position)
        label = gallery.classes[order[0]]
        subset = [x for x in range(G) if gallery.classes[x] != label]
        nearest = next(x for x in order if x in subset)
        assert index == subset.index(nearest)


# Objectives of attacks.


def expected_loss(spec: AttackSpec, gallery: Gallery, aim: Aim, row: int, point: Tensor) -> float:
    """Compute the loss by loops over queries, candidates and images."""
    points = gallery.embeddings
    items, everyone = aim.items[row].tolist(), range(len(gallery))
    sign = -1 if spec.pm == "-" or spec.kind == "GTT" else 1

    def to(x: int) -> float:
        return distance(point, points[x])

    def behind(chosen: list[int], sign: int) -> float:
        return mean(hinge(sign * (to(c) - to(x))) for c in chosen for x in everyone)

    own = int(aim.own[row])
    matching = [x for x in everyone if gallery.classes[x] == gallery.classes[own] and x != own]
    unmatching = [x for x in everyone if gallery.classes[x] != gallery.classes[own]]
    match spec.kind:
        case "CA":
            return mean(
                hinge(sign * (distance(points[q], point) - distance(points[q], points[x])))
                for q in items
                for x in everyone
            )
        case "QA" | "GTT":
            return behind(items, sign)
        case "SPQA":
            kept = behind(aim.kept[row].tolist(), 1)
            return behind(items, sign) + min(math.exp(spec.balance * kept), 1e9) * kept
        case "TMA":
            return 1 - float(point @ points[items[0]])
        case "ES":
            return -to(own)
        case "GTM":
            return to(items[0])
        case "LTM":
            if not matching:
                return 0
            return hinge(max(map(to, unmatching)) - min(map(to, matching)))
        case "FOA":
            pairs = itertools.combinations(items, 2)
            return sum(hinge(to(i) - to(j)) for i, j in pairs) / len(items) ** 2


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_objectives_match_loops(spec, gallery, own, embeddings):
    spec = replace(spec, balance=3.0)
    attack = build_ranking_attack(spec, CORRECT)
    aim = attack.select(gallery, own, generator())
    values = attack.objective(gallery, aim)(embeddings)
    expected = [expected_loss(spec, gallery, aim, row, embeddings[row]) for row in range(N)]
    # A query's distance to itself, one of G distances, is the root of the rounding error of 1 - cosine.
    of_itself = math.sqrt(4 * torch.finfo(torch.float32).eps) / G
    np.testing.assert_allclose(values, expected, rtol=1e-4, atol=2 * of_itself)
    assert max(map(abs, expected)) > 100 * of_itself


def test_the_weight_of_kept_images_is_bounded(gallery, own, embeddings):
    attack = build_ranking_attack(parse_attack("SPQA:pm=+:balance=4e4"), CORRECT)
    aim = attack.select(gallery, own, generator())
    values = attack.objective(gallery, aim)(embeddings)
    kept = objectives.raise_in_query(gallery, Aim(own, aim.kept))(embeddings)
    assert values.isfinite().all()
    np.testing.assert_allclose(values, 1e9 * kept, rtol=1e-5)


def test_the_published_ltm_counts_the_query_itself(gallery, own, embeddings):
    attack = build_ranking_attack(parse_attack("LTM"), PAPER)
    values = attack.objective(gallery, attack.select(gallery, own, generator()))(embeddings)
    for row, position in enumerate(own.tolist()):
        far = [
            distance(embeddings[row], gallery.embeddings[x])
            for x in range(G)
            if gallery.classes[x] != gallery.classes[position]
        ]
        near = [
            distance(embeddings[row], gallery.embeddings[x])
            for x in range(G)
            if gallery.classes[x] == gallery.classes[position]
        ]
        assert float(values[row]) == pytest.approx(hinge(max(far) - min(near)), abs=1e-5)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_gradients_are_those_of_finite_differences(spec, gallery, own, embeddings):
    """Double precision makes differences exact enough."""
    double = Gallery(functional.normalize(gallery.embeddings.double()), gallery.classes)
    spec = replace(spec, balance=0.0)  # the weight of SPQA is not differentiated
    attack = build_ranking_attack(spec, CORRECT)
    loss = attack.objective(double, attack.select(double, own, generator()))
    points = embeddings.double().requires_grad_()
    assert torch.autograd.gradcheck(lambda p: loss(functional.normalize(p)), points)


def test_images_do_not_meet_each_others_gradient(gallery, own, embeddings):
    for spec in SPECS:
        attack = build_ranking_attack(spec, CORRECT)
        aim = attack.select(gallery, own, generator())
        loss = attack.objective(gallery, aim)
        first = Aim(own[:1], aim.items[:1], None if aim.kept is None else aim.kept[:1])
        alone = attack.objective(gallery, first)(embeddings[:1])
        torch.testing.assert_close(loss(embeddings)[:1], alone)


# Scores of attacks.


def expected_scores(spec: AttackSpec, gallery: Gallery, aim: Aim, row: int, point: Tensor) -> dict:
    points, own, items = gallery.embeddings, int(aim.own[row]), aim.items[row].tolist()
    order = ranking(gallery, own, point)

    def percentile(of: Tensor, limit: float) -> float:
        return 100 * mean(distance(of, points[x]) < limit - 1e-6 for x in range(G))

    def in_query(chosen: list[int]) -> float:
        return mean(percentile(point, distance(point, points[c])) for c in chosen)

    matched = [gallery.classes[x] == gallery.classes[own] for x in order]
    r1 = 100.0 * bool(matched[0]) if any(matched) else math.nan
    match spec.kind:
        case "CA":
            ranks = (percentile(points[q], distance(points[q], point)) for q in items)
            return {"percentile": mean(ranks)}
        case "QA":
            return {"percentile": in_query(items)}
        case "SPQA":
            kept = in_query(aim.kept[row].tolist())
            return {"percentile": in_query(items), "kept_percentile": kept}
        case "TMA":
            return {"cosine": float(point @ points[items[0]])}
        case "ES":
            return {"distance": distance(point, points[own]), "r1": r1}
        case "LTM" | "GTM":
            return {"r1": r1}
        case "GTT":
            return {"retained": 100.0 * (items[0] in order[:4])}
        case "FOA" if spec.size == 2:
            return {"accuracy": 100.0 * (order.index(items[0]) < order.index(items[1]))}
        case "FOA":
            signs = [
                1 if order.index(i) < order.index(j) else -1
                for i, j in itertools.combinations(items, 2)
            ]
            return {"tau": mean(signs)}


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_scores_match_loops(spec, gallery, own, embeddings):
    attack = build_ranking_attack(spec, CORRECT)
    aim = attack.select(gallery, own, generator())
    # Some images hardly move, so that every score has both outcomes. All of them move, since rounding
    # would decide ties.
    mixed = functional.normalize(
        gallery.embeddings[own] + torch.linspace(0.1, 2, N)[:, None] * embeddings
    )
    points = torch.cat([mixed, gallery.embeddings]).double()
    distances = torch.cdist(points, gallery.embeddings.double()).sort(dim=1).values
    assert distances.diff(dim=1).min() > 1e-6
    found = attack.score(mixed, gallery, aim)
    expected = [expected_scores(spec, gallery, aim, row, mixed[row]) for row in range(N)]
    assert found.keys() == expected[0].keys()
    for name, values in found.items():
        np.testing.assert_allclose(values, [e[name] for e in expected], rtol=1e-5, atol=1e-4)


def test_ties_do_not_come_first():
    gallery = Gallery(functional.normalize(torch.ones(6, D)), torch.tensor([0, 0, 0, 1, 1, 1]))
    own = torch.arange(6)
    found = scores.recall(gallery.embeddings, gallery, Aim(own, own[:, None]))
    assert (found["r1"] == 0).all()


# Runs from images to scores.


@pytest.fixture(scope="module")
def drawn() -> ImageSet:
    """Set of 300 grey images of 6 classes, 8x8; each class brightens another part of the image."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 6, 300)
    bases = rng.integers(40, 200, (6, 8, 8, 1))
    levels = (bases[classes] + rng.integers(-40, 41, (300, 8, 8, 1))).clip(0, 255)
    return ImageSet.of(ImageArray(levels.astype(np.uint8)), classes, "abcdef")


def random_embedder(seed: int):
    """Smooth random map from images to embeddings."""
    weights = torch.randn(64, 32, generator=generator(seed)) / 4
    shift = torch.randn(32, generator=generator(seed + 1))
    return lambda images: functional.normalize(((images - 0.5).flatten(1) @ weights + shift).tanh())


@pytest.fixture(scope="module")
def ranker(drawn) -> Ranker:
    return Ranker.of(random_embedder(0), drawn, "cpu", 64)


@pytest.fixture(scope="module")
def task(drawn, ranker) -> RankingTask:
    return RankingTask(drawn, ranker, ranker, CORRECT, batch_size=50)


def known_mean(values: np.ndarray) -> float:
    return float(np.nanmean(values))


POSITIONS = np.arange(0, 300, 3)
LOWER_IS_STRONGER = {"CA+", "QA+", "LTM", "GTM", "GTT", "SPQA+"}


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_every_attack_does_its_job_within_its_budget(spec, task, drawn):
    spec = replace(spec, eps=32 / 255, steps=15, balance=0.0)
    stored = []
    found = replace(task, store=lambda *what: stored.append(what)).run(spec, POSITIONS, (0,))
    for _, positions, attacked, levels in stored:
        np.testing.assert_array_equal(levels, drawn.batch(positions))
        clean = torch.from_numpy(levels).permute(0, 3, 1, 2) / 255
        assert 0 <= attacked.min() <= attacked.max() <= 1
        assert (attacked - clean).abs().max() <= 32 / 255 + 1e-6
        assert ((attacked - clean).abs().amax(dim=(1, 2, 3)) > 1 / 255).float().mean() > 0.8
    assert sum(len(positions) for _, positions, _, _ in stored) == len(POSITIONS)
    assert len(next(iter(found.after.values()))) == len(POSITIONS)

    name = next(iter(found.after))
    before, after = known_mean(found.before[name]), known_mean(found.after[name])
    change = after - before
    if spec.title in LOWER_IS_STRONGER:
        assert change < -0.05 * before, (before, after)
    else:
        assert change > 0.05 * abs(before), (before, after)


@pytest.mark.parametrize("spec", SPECS, ids=str)
def test_a_budget_of_0_keeps_every_measure(spec, task):
    found = task.run(replace(spec, eps=0.0, steps=3), POSITIONS, (0,))
    for name, before in found.before.items():
        np.testing.assert_allclose(found.after[name], before, atol=1e-3, equal_nan=True)


def test_clean_percentiles_are_where_targets_were_drawn(task):
    everyone = np.arange(300)
    spec = parse_attack("CA:pm=+:W=10:eps=0:pgditer=1:alpha=1/255")
    assert task.run(spec, everyone, (0,)).before["percentile"].mean() == pytest.approx(50, abs=2)
    for text in ("CA:pm=-:W=1", "QA:pm=-:M=1"):
        before = task.run(parse_attack(f"{text}:pgditer=1"), everyone, (0,)).before["percentile"]
        assert before.mean() < 2


def test_all_budgets_aim_at_the_same_images(task):
    spec = parse_attack("TMA:pgditer=1")
    small, large = (
        task.run(replace(spec, eps=eps), POSITIONS, (0,)).before["cosine"] for eps in (0.0, 0.1)
    )
    np.testing.assert_array_equal(small, large)


def test_results_depend_on_the_seed_only(task):
    spec = parse_attack("CA:pm=+:W=1:pgditer=2:start=random")
    once, again = (task.run(spec, POSITIONS, (3, 0)).after["percentile"] for _ in range(2))
    np.testing.assert_array_equal(once, again)
    other = task.run(spec, POSITIONS, (3, 1)).after["percentile"]
    assert (once != other).any()


def losses_after(task: RankingTask, spec: AttackSpec, nes: NES | None = None) -> Tensor:
    attack = build_ranking_attack(spec, CORRECT)
    own = torch.from_numpy(POSITIONS)
    aim = attack.select(task.victim.gallery, own, generator())
    loss = attack.objective(task.victim.gallery, aim)
    images = torch.from_numpy(task.images.batch(POSITIONS)).permute(0, 3, 1, 2) / 255

    def objective(points: Tensor) -> Tensor:
        return loss(task.victim.embed(points))

    attacked, _ = Descent(spec, nes).run(images, objective, generator(5))
    return objective(attacked) - objective(images)


@pytest.mark.parametrize("text", ["CA:pm=+:W=1", "QA:pm=-:M=1", "TMA", "ES", "GTM"])
def test_nes_lowers_the_objective_without_gradients(task, text):
    spec = parse_attack(f"{text}:eps=16/255:alpha=3/255:pgditer=8")
    random = losses_after(task, replace(spec, steps=1, step=1e-9, start="random"))
    estimated = losses_after(task, spec, NES())
    exact = losses_after(task, spec)
    assert exact.mean() < estimated.mean() < random.mean() - 0.01
    assert (estimated < 0).float().mean() > 0.9


def test_nes_stretches_noise_over_large_images():
    spec = parse_attack("ES:eps=8/255:pgditer=1:alpha=8/255")
    images = torch.full((1, 1, 64, 64), 0.5)
    attacked, _ = Descent(spec, NES(samples=2)).run(
        images, lambda points: points.flatten(1)[:, 0], generator()
    )
    change = (attacked - images)[0, 0]
    blocks = change.reshape(32, 2, 32, 2).permute(0, 2, 1, 3).flatten(2)
    assert (blocks == blocks[..., :1]).all()


@pytest.mark.parametrize("text", ["CA:pm=+:W=1", "QA:pm=+:M=1", "LTM"])
def test_restarts_keep_the_best_of_every_image(task, text):
    spec = parse_attack(f"{text}:eps=16/255:pgditer=3")
    once = losses_after(task, spec)
    several = losses_after(task, replace(spec, restarts=4))
    assert (several <= once + 1e-6).all()
    assert (several < once - 1e-6).any()


def test_one_step_is_fgsm(task):
    attacked = []
    spec = parse_attack("TMA:eps=8/255:pgditer=1")
    replace(task, store=lambda *what: attacked.append(what[2])).run(spec, POSITIONS[:4], (0,))
    clean = torch.from_numpy(task.images.batch(POSITIONS[:4])).permute(0, 3, 1, 2) / 255
    moved = (attacked[0] - clean).abs()
    inside = (clean > 8 / 255) & (clean < 1 - 8 / 255)
    torch.testing.assert_close(moved[inside], torch.full_like(moved[inside], 8 / 255))


def test_a_surrogate_transfers_less_than_it_fools(task, drawn):
    surrogate = Ranker.of(random_embedder(10), drawn, "cpu", 64)
    spec = parse_attack("ES:eps=16/255:pgditer=12")
    white = task.run(spec, POSITIONS, (0,)).after["distance"].mean()
    black = replace(task, attacker=surrogate).run(spec, POSITIONS, (0,))
    assert 0.1 < black.after["distance"].mean() < white
    assert black.before["distance"].max() < 1e-3  # the victim's own embeddings


def test_the_published_es_is_one_step_early(task):
    spec = parse_attack("ES:eps=40/255:pgditer=6")
    paper = replace(task, definitions=PAPER)
    early = task.run(replace(spec, steps=5), POSITIONS, (0,)).after
    published, whole = (
        paper.run(spec, POSITIONS, (0,)).after,
        task.run(spec, POSITIONS, (0,)).after,
    )
    np.testing.assert_allclose(published["distance"], early["distance"], atol=1e-6)
    np.testing.assert_array_equal(published["r1"], whole["r1"])
    assert whole["distance"].mean() > published["distance"].mean()


def test_where_classes_lie_apart_correct_gtm_is_stronger_than_the_published_one(task):
    spec = parse_attack("GTM:eps=16/255:pgditer=8")
    paper = replace(task, definitions=PAPER).run(spec, POSITIONS, (0,)).after["r1"].mean()
    assert task.run(spec, POSITIONS, (0,)).after["r1"].mean() < paper


def test_positions_are_a_random_subset():
    chosen = choose_positions(100, 10, (0,))
    assert len(set(chosen.tolist())) == 10
    assert chosen.max() > 20
    assert (np.diff(chosen) > 0).all()
    np.testing.assert_array_equal(chosen, choose_positions(100, 10, (0,)))
    assert (chosen != choose_positions(100, 10, (1,))).any()
    np.testing.assert_array_equal(choose_positions(5, None, (0,)), np.arange(5))


def test_every_kind_is_tried_here():
    assert {spec.kind for spec in SPECS} == set(KINDS)
