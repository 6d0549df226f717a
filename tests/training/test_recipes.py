"""Recipes of metric learning: their steps against loops, their promises, stops, and several processes."""

import copy
import json
import multiprocessing
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import distributed, nn
from torch.nn import functional

from src.artifacts.errors import UserError
from src.datasets.image_set import ImageSet
from src.extractors.checkpoints import load_extractor
from src.extractors.embedders import Embedder
from src.extractors.extractor import Extractor, Prediction
from src.training import loop
from src.training.adversaries import Adversary, AdversaryBudget
from src.training.batches import pairs
from src.training.command import RecipeOptions
from src.training.hardness import Constant, LossGuided, hardness
from src.training.loop import Schedule, train
from src.training.losses import EmbeddingLoss
from src.training.metric_losses import METRIC_LOSSES
from src.training.miners import MINERS, Triplets
from src.training.objectives import HARDNESS_OBJECTIVES, Inner
from src.training.options import build_recipe
from src.training.pictures import UNCHANGED
from src.training.recipes import RECIPES, Mix, altered, hardness_manipulation, parts
from src.training.steps import State, perturbed_views, set_mode, train_step
from src.training.terms import barlow_twins, intraclass_structure
from tests.image_sets import image_set
from tests.pictures import write_labelled
from tests.scripts import run_script

EPS, STEP = 16 / 255, 4 / 255
METRIC_RECIPES = [
    name for name in RECIPES if isinstance(parts(RECIPES[name])[0].loss, EmbeddingLoss)
]


def tiny_embedder() -> Extractor:
    torch.manual_seed(0)
    layers = (nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.Tanh(), nn.AdaptiveAvgPool2d(2))
    backbone = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 6))
    return Extractor(Embedder(backbone, 6, 4), ["a", "b", "c", "d"], "head")


def batch(n_pairs: int = 8, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    source = generator(seed)
    images = torch.rand(2 * n_pairs, 3, 8, 8, generator=source)
    return images, torch.randint(4, (n_pairs,), generator=source).repeat_interleave(2)


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def recipe_named(name: str, steps: int = 3):
    def cheap(recipe):
        if recipe.adversary is None:
            return recipe
        return replace(
            recipe, adversary=replace(recipe.adversary, budget=AdversaryBudget(EPS, STEP, steps))
        )

    return altered(RECIPES[name], cheap)


def views_of(recipe, state=None, seed=0, batch_seed=0):
    extractor = tiny_embedder()
    set_mode(extractor, recipe.batch_norm)
    images, labels = batch(seed=batch_seed)
    return perturbed_views(extractor, recipe, state or State(), images, labels, generator(seed))


def unlike_pixels(one, other, state=None, batch_seed=0) -> torch.Tensor:
    """Return the share of pixels that two recipes change differently."""
    points, others = (
        views_of(recipe, state, batch_seed=batch_seed).points for recipe in (one, other)
    )
    return ((points - others).abs() > 1e-6).float().mean()


TURNED = 0.01
"""More pixels than rounding gives another sign of their gradient, and fewer than another rule does."""


@pytest.mark.parametrize(
    ("batch_seed", "step", "ics"), [(2, 1 / 255, False), (4, STEP, True)], ids=["steps", "term"]
)
def test_a_step_of_hardness_manipulation_is_the_algorithm_of_the_paper(batch_seed, step, ics):
    """The reference computes HM[S, g_LGA] & ICS triplet by triplet with plain backward passes.

    The first batch tests the last of three steps, the second tests the term. If rounding turns the sign
    of a pixel's gradient, loss and update change by far less than 1 %.
    """
    recipe = recipe_named("hm")
    recipe = replace(
        recipe,
        adversary=replace(recipe.adversary, budget=AdversaryBudget(EPS, step, 3)),
        terms=((0.5, intraclass_structure),),
    )
    images, labels = batch(seed=batch_seed)
    ours, reference = tiny_embedder(), tiny_embedder()
    state = State(last_loss=0.15)
    optimizer = torch.optim.SGD(ours.network.parameters(), lr=0.1)
    reported = train_step(ours, [optimizer], recipe, state, images, labels, generator(5))

    reference.eval()

    def embed(image):
        return reference(image[None]).features[0]

    def apart(one, other):
        return (one - other).norm()

    benign = torch.stack([embed(image) for image in images]).detach()
    triplets = MINERS["softhard"](benign, labels, generator(5))
    wanted = -0.2 * 0.15 / 0.2
    moved = []
    for rows in zip(*triplets, strict=True):
        points = [images[row].clone() for row in rows]
        for _ in range(3):
            points = [point.detach().requires_grad_() for point in points]
            a, p, n = map(embed, points)
            objective = (wanted - (apart(a, p) - apart(a, n))).relu() ** 2
            gradients = torch.autograd.grad(objective, points)
            for position, (point, gradient) in enumerate(zip(points, gradients, strict=True)):
                clean = images[rows[position]]
                stepped = point.detach() - step * gradient.sign()
                points[position] = torch.max(torch.min(stepped, clean + EPS), clean - EPS).clamp(
                    0, 1
                )
        moved.append(points)
    losses, terms = [], []
    for rows, points in zip(zip(*triplets, strict=True), moved, strict=True):
        a, p, n = map(embed, points)
        losses.append((apart(a, p) - apart(a, n) + 0.2).relu())
        clean_a, clean_p = embed(images[rows[0]]), embed(images[rows[1]])
        # An anchor that is its own positive is at distance 0, where the norm has no gradient.
        between = apart(clean_a, clean_p) if rows[0] != rows[1] else torch.zeros(())
        terms.append((apart(clean_a, a) - between).relu())
    loss = torch.stack(losses).mean()
    assert (torch.stack(terms).mean() > 0.01 * loss) == ics
    (loss + 0.5 * torch.stack(terms).mean()).backward()

    assert reported == pytest.approx(loss.item(), rel=0.01)
    assert state.last_loss == reported
    for mine, other in zip(ours.network.parameters(), reference.network.parameters(), strict=True):
        if other.grad is not None:
            update = 0.1 * other.grad
            assert (other - update - mine).norm() < 0.01 * update.norm() + 1e-6


def test_act_moves_positives_and_negatives_together_and_leaves_anchors():
    recipe = recipe_named("act", steps=6)
    views = views_of(recipe)
    anchors, positives, _ = views.perturbed_triplets.of(views.points)
    clean = views.triplets.of(views.images)
    assert torch.equal(anchors, clean[0])
    assert not torch.equal(positives, clean[1])
    _, p, n = views.perturbed_triplets.of(views.perturbed.features)
    _, clean_p, clean_n = views.triplets.of(views.benign.features)
    assert (p - n).norm(dim=1).mean() < (clean_p - clean_n).norm(dim=1).mean()


@pytest.mark.parametrize("name", ["est", "ses", "rest"])
def test_embeddings_are_shifted(name):
    """The distance has no gradient at x' = x, and every image moves nevertheless."""
    recipe = replace(recipe_named(name), batch_norm="frozen")
    views = views_of(recipe)
    origin = views.images
    if name == "rest":
        origin = torch.cat(views.triplets.of(views.images))[8:]
        assert torch.equal(views.points[:8], views.triplets.of(views.images)[0])
    points = views.points[-len(origin) :]
    assert ((points - origin).abs().amax(dim=(1, 2, 3)) > 0).all()
    shift = (views.network(points).features - views.network(origin).features).norm(dim=1)
    noise = STEP * torch.randint(-1, 2, origin.shape, generator=generator(0))
    by_chance = views.network((origin + 3 * noise).clamp(0, 1)).features
    assert shift.mean() > 2 * (by_chance - views.network(origin).features).norm(dim=1).mean()


@pytest.mark.parametrize("name", [name for name in METRIC_RECIPES if name != "none"])
def test_budget_and_range_hold(name):
    for recipe in parts(recipe_named(name, steps=7)):
        if recipe.adversary is None:
            continue
        views = views_of(recipe, State(perturbation=None, last_loss=0.0))
        origin = views.images if views.mined is None else torch.cat(views.triplets.of(views.images))
        assert views.points.shape == origin.shape
        assert (views.points - origin).abs().max() <= EPS + 1e-6
        assert views.points.min() >= 0 and views.points.max() <= 1


@pytest.mark.parametrize("letter", MINERS)
def test_hardness_manipulation_onto_its_own_source_leaves_images_as_they_are(letter):
    views = views_of(hardness_manipulation(letter, letter))
    assert views.perturbed is views.benign
    embeddings = views.benign.features
    easiest = replace(
        hardness_manipulation("random", "-2"), miner=lambda *_: Triplets(*[torch.arange(8)] * 3)
    )
    assert torch.equal(views_of(easiest).points, torch.cat([views.images[:8]] * 3))
    assert embeddings.requires_grad


@pytest.mark.parametrize("objective", ["et", "harden"])
def test_a_triplet_stops_as_soon_as_it_is_hard_enough(objective):
    """The gradient is exactly 0 if H >= H_D, and otherwise points up H."""
    source = generator(0)
    features = functional.normalize(torch.randn(30, 4, generator=source)).requires_grad_()
    inner = Inner(
        Prediction(features, features),
        lambda: None,
        torch.zeros(30),
        None,
        "N",
        torch.full((10,), -0.1),
        source,
    )
    values = HARDNESS_OBJECTIVES["et"](inner)
    if objective == "harden":
        values = RECIPES["amdsemi"].adversary.objective(inner)
    (gradient,) = torch.autograd.grad(values.sum(), features, retain_graph=True)
    (ascent,) = torch.autograd.grad(inner.hardness().sum(), features)
    done = (hardness(*features.detach().chunk(3)) >= -0.1).repeat(3)
    assert 0 < done.sum() < 30
    assert (gradient[done] == 0).all()
    directions = functional.cosine_similarity(gradient[~done], ascent[~done])
    torch.testing.assert_close(directions, -torch.ones(len(directions)))


@pytest.mark.parametrize("anchor", ["free", "fixed"])
@pytest.mark.parametrize("objective", ["et", "l2"])
def test_triplets_at_rest_can_be_left_out_of_the_descent(objective, anchor):
    """Some random triplets are hard enough from the start, the others are not."""
    recipe, state = hardness_manipulation("random", "lga", objective, anchor), State(last_loss=0.1)
    recipe = replace(
        recipe, adversary=replace(recipe.adversary, budget=AdversaryBudget(EPS, STEP, 10))
    )
    together = replace(recipe.adversary, objective=lambda inner: recipe.adversary.objective(inner))
    assert unlike_pixels(recipe, replace(recipe, adversary=together), state) < TURNED
    views = views_of(recipe, state)
    moved = views.points != torch.cat(views.triplets.of(views.images))
    share = moved.flatten(1).any(dim=1).float().mean()
    assert 0.1 < share < 0.6 if objective == "et" else share > 0.6


def test_kl_is_a_divergence():
    source = generator(0)
    features = functional.normalize(torch.randn(30, 4, generator=source))
    prediction = Prediction(features, features)
    own = hardness(*features.chunk(3))
    rest = (lambda: None, torch.zeros(30), None, "N")
    kl = HARDNESS_OBJECTIVES["kl"]
    assert kl(Inner(prediction, *rest, own, source)).sum() == pytest.approx(0, abs=1e-6)
    wanted = torch.rand(10, generator=source)
    p, q = ((2 + hard.double()) / (2 + hard.double()).sum() for hard in (wanted, own))
    expected = (p * (p / q).log()).sum().item()
    assert kl(Inner(prediction, *rest, wanted, source)).sum() == pytest.approx(expected, abs=1e-6)


def test_min_max_is_hardness_manipulation_without_end():
    recipe = recipe_named("amd", steps=4)
    endless = replace(
        recipe.adversary, objective=HARDNESS_OBJECTIVES["et"], destination=Constant(2)
    )
    assert unlike_pixels(recipe, replace(recipe, adversary=endless)) < TURNED
    ending = replace(endless, destination=Constant(0))
    assert unlike_pixels(recipe, replace(recipe, adversary=ending)) > 10 * TURNED


def test_amdsemi_is_hardness_manipulation_by_the_root_of_the_loss():
    recipe, state = recipe_named("amdsemi", steps=4), State(last_loss=0.05)
    squared = replace(recipe.adversary, objective=HARDNESS_OBJECTIVES["et"])
    assert recipe.adversary.destination == LossGuided(power=0.5)
    assert unlike_pixels(recipe, replace(recipe, adversary=squared), state, batch_seed=1) < TURNED
    by_the_loss = replace(squared, destination=LossGuided(power=1.0))
    other = replace(recipe, adversary=by_the_loss)
    assert unlike_pixels(recipe, other, state, batch_seed=1) > 5 * TURNED


def test_a_free_perturbation_of_triplets_goes_on_and_lets_go():
    recipe = recipe_named("free-amdsemi")
    assert recipe.replays == 4
    recipe = replace(recipe, adversary=replace(recipe.adversary, release=0.0))
    extractor, state = tiny_embedder(), State()
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=0.0)
    images, labels = batch()
    benign = extractor.eval()(images).features
    triplets = MINERS["random"](benign, labels, generator(0))
    first_hardness = hardness(*triplets.of(benign)).repeat(3)
    let_go, without_loss = first_hardness > 0, first_hardness < -0.2
    assert let_go.any() and without_loss.any() and not (let_go | without_loss).all()
    train_step(extractor, [optimizer], recipe, state, images, labels, generator(0))
    first = state.perturbation
    assert first.shape == (24, 3, 8, 8)
    assert torch.equal(first.abs().amax(dim=(1, 2, 3)) == 0, let_go | without_loss)
    recipe = recipe_named("free-amd")
    train_step(extractor, [optimizer], recipe, state, images, labels, generator(0))
    assert state.perturbation.abs().amax() == pytest.approx(2 * STEP)
    for _ in range(5):
        train_step(extractor, [optimizer], recipe, state, images, labels, generator(0))
    assert state.perturbation.abs().amax() <= EPS + 1e-7


@pytest.mark.parametrize("name", METRIC_RECIPES)
def test_an_attack_computes_no_weight_gradients_and_a_step_repeats_no_forward(name):
    recipe = parts(recipe_named(name, steps=2))[0]
    extractor, images = tiny_embedder(), batch()[0]
    passes, weight_passes = [], []

    def count(_, inputs):
        passes.append(len(inputs[0]))
        if extractor.network.backbone[5].weight.requires_grad and torch.is_grad_enabled():
            weight_passes.append(len(inputs[0]))

    extractor.network.register_forward_pre_hook(count)
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=0.1)
    train_step(extractor, [optimizer], recipe, State(), *batch(), generator(0))
    m, t = len(images), len(images) // 2
    benign, moved = {
        "none": (m, 0),
        "est": (m, 2 * m),
        "ses": (m, 2 * m),
        "rest": (m, 2 * 2 * t),
        "act": (m, 2 * 2 * t),
        "ramd": (m, 2 * 2 * t),
        "act-or-none": (m, 2 * 2 * t),
        "act-or-amdsemi": (m, 2 * 2 * t),
        "free-est": (0, 0),
        "free-amd": (m, 0),
        "free-amdsemi": (m, 0),
    }.get(name, (m, 2 * 3 * t))
    trained = {"none": m, "est": m, "ses": 2 * m, "free-est": m, "amdsemi-aap": 3 * t + m}
    expected = trained.get(name, 3 * t)
    assert sum(weight_passes) == expected
    if name == "none":  # the one forward is mined and trained on
        assert sum(passes) == expected
    elif name.startswith(("hm", "amdsemi")):  # triplets that are hard enough leave the descent
        assert expected + benign + 3 * t <= sum(passes) < expected + benign + moved
    else:
        assert sum(passes) == expected + benign + moved


@pytest.mark.parametrize("policy", ["frozen", "train"])
def test_batch_norm_statistics_follow_the_recipe(policy):
    extractor = tiny_embedder()
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=0.1)
    recipe = replace(recipe_named("hm"), batch_norm=policy)
    norm = extractor.network.backbone[1]
    before, weight = norm.running_mean.clone(), norm.weight.detach().clone()
    train_step(extractor, [optimizer], recipe, State(), *batch(), generator(0))
    assert torch.equal(norm.running_mean, before) == (policy == "frozen")
    assert not torch.equal(norm.weight, weight)
    assert norm.num_batches_tracked == (policy == "train")


def test_barlow_twins_by_loops():
    views = views_of(RECIPES["none"])
    value = barlow_twins(views)
    anchors, positives, _ = views.triplets.of(views.benign.features.detach().double())
    counts = views.classes.bincount()
    kept = [k for k, row in enumerate(views.triplets.anchor) if counts[views.classes[row]] >= 3]
    assert 2 < len(kept) <= 8

    def standard(column):
        return (column - column.mean()) / column.std(correction=0)

    expected = 0.0
    for i in range(6):
        for j in range(6):
            c = (standard(anchors[kept, i]) * standard(positives[kept, j])).mean()
            expected += float((1 - c) ** 2 if i == j else 5e-3 * c**2)
    assert value.item() == pytest.approx(expected, rel=1e-4)


def test_pairs_share_a_label_and_every_picture_is_an_anchor_once():
    labels = torch.randint(5, (40,), generator=generator(0))
    batches = list(pairs(labels, 8, generator(1)))
    assert [len(rows) for rows in batches] == [16] * 5
    rows = torch.cat(batches)
    assert torch.equal(labels[rows[::2]], labels[rows[1::2]])
    assert sorted(rows[::2].tolist()) == list(range(40))
    many = torch.cat([row for seed in range(400) for row in pairs(labels, 40, generator(seed))])
    partners = many[1::2][labels[many[1::2]] == 2].bincount(minlength=40)[labels == 2]
    assert partners.float().std() / partners.float().mean() < 0.15


def test_a_mix_follows_both_recipes():
    mix = RECIPES["act-or-none"]
    assert isinstance(mix, Mix)
    draws = [loop.drawn(mix, source) for source in [generator(0)] for _ in range(200)]
    assert 70 < draws.count(mix.first) < 130
    assert draws.count(mix.first) + draws.count(mix.second) == 200


def coloured_pictures(n: int = 48) -> ImageSet:
    source = generator(0)
    categories = torch.arange(n) % 4
    pixels = torch.randint(0, 120, (n, 3, 8, 8), generator=source)
    pixels[torch.arange(n), categories % 3] += 60 * (categories > 0)[:, None, None]
    return image_set(pixels, categories, ("a", "b", "c", "d"))


SCHEDULE = Schedule(4, 8, 1e-2, "adam", weight_decay=1e-4, augmentation=UNCHANGED, seed=3)


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("hm", "triplet"),
        ("act", "margin"),
        ("free-amd", "triplet"),
        ("acap", "triplet"),
        ("hm-mix", "triplet"),
        ("none", "ms"),
    ],
)
def test_a_stopped_training_ends_with_the_same_bytes(name, loss, stopped_after_an_epoch, tmp_path):
    recipe = altered(recipe_named(name, 2), lambda part: replace(part, loss=EmbeddingLoss(loss)))
    pictures, schedule = coloured_pictures(), replace(SCHEDULE, epochs=8)
    whole, resumed = tiny_embedder(), tiny_embedder()
    train(whole, pictures, recipe, schedule, tmp_path / "whole")
    rest = (pictures, recipe, schedule, tmp_path / "state")
    stopped_after_an_epoch(train, tiny_embedder(), *rest)
    train(resumed, *rest)
    expected, untrained = whole.network.state_dict(), tiny_embedder().network.state_dict()
    assert not torch.equal(expected["backbone.0.weight"], untrained["backbone.0.weight"])
    for key, value in resumed.network.state_dict().items():
        assert torch.equal(value, expected[key]), key
    content = [torch.load(tmp_path / file, weights_only=True) for file in ("whole", "state")]
    assert content[0]["last_loss"] == content[1]["last_loss"] < 2.0
    if loss == "margin":
        assert content[0]["learnt"]["beta"] == content[1]["learnt"]["beta"] != 0.6


def test_bf16_trains_and_is_over_afterwards(tmp_path):
    extractor = tiny_embedder()
    train(extractor, coloured_pictures(), recipe_named("hm"), SCHEDULE, tmp_path / "s", "bf16")
    assert extractor.precision == "fp32"
    assert all(value.isfinite().all() for value in extractor.network.parameters())


def share(rank: int, folder: Path) -> None:
    """Train in one of two processes and save its weights."""
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2
    )
    extractor = tiny_embedder()
    train(extractor, coloured_pictures(), recipe_named("hm"), SCHEDULE, folder / "state")
    torch.save(extractor.network.state_dict(), folder / f"{rank}.pt")
    distributed.destroy_process_group()


def test_processes_share_batches_gradients_and_the_last_loss(tmp_path):
    context = multiprocessing.get_context("fork" if os.name == "posix" else "spawn")
    processes = [context.Process(target=share, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key
    alone = tiny_embedder()
    train(alone, coloured_pictures(), recipe_named("hm"), SCHEDULE, tmp_path / "alone")
    assert not torch.equal(
        first["backbone.0.weight"], alone.network.state_dict()["backbone.0.weight"]
    )


@pytest.mark.parametrize(
    ("options", "arch", "problem"),
    [
        (RecipeOptions("hn"), "c2f2+512", "unknown recipe hn: choose from plain"),
        (RecipeOptions("hm"), "resnet18", "trains an embedder"),
        (RecipeOptions("madry"), "resnet18+64", "trains a classifier"),
        (RecipeOptions("hm", source="soft"), "c2f2+512", "unknown miner soft"),
        (RecipeOptions("hm", dest="soft"), "c2f2+512", "unknown hardness soft"),
        (RecipeOptions("act", dest="lga"), "c2f2+512", "--dest belongs to --recipe hm"),
        (RecipeOptions("plain", loss="triplet"), "resnet18", "--loss belongs to embedders"),
        (RecipeOptions("plain", ics=0.5), "resnet18", "belong to embedders"),
        (RecipeOptions("hm", loss="ms"), "c2f2+512", "ms cannot judge perturbed triplets"),
        (RecipeOptions("none", loss="ms", metric="E"), "c2f2+512", "metric C or N"),
        (RecipeOptions("hm", metric="C"), "c2f2+512", "on the unit sphere: --metric N"),
        (RecipeOptions("hm-mix", source="random"), "c2f2+512", "miners of its own"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(options, arch, problem):
    with pytest.raises(UserError, match=problem):
        build_recipe(options, arch, 8.0, None)


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("ghmetss", "nothing is perturbed"),
        ("grhetsmi", "stays at 0"),
        ("grhetsm", None),
        ("ghmetsmi", None),
        ("p", None),
    ],
)
def test_what_a_name_does_not_do_is_said(name, note, capsys):
    code, _, err = call(capsys, f"-C cub:rres18{name}:ptripletN --dry_run")
    assert code == 0
    assert err.count("\n") == (note is not None)
    assert (note or "") in err


def test_budgets_are_the_published_ones_unless_told_otherwise():
    def budget(recipe, arch, eps, step=None, steps=None):
        return build_recipe(RecipeOptions(recipe, steps=steps), arch, eps, step).adversary.budget

    assert budget("hm", "c2f2+512", 77) == AdversaryBudget(77 / 255, 3 / 255, 32)
    assert budget("hm", "resnet18+512", 8) == AdversaryBudget(8 / 255, 1 / 255, 8)
    assert budget("est", "resnet18+512", 8, steps=1) == AdversaryBudget(8 / 255, 8 / 255, 1)
    assert budget("act", "resnet18+512", 8, step=2) == AdversaryBudget(8 / 255, 2 / 255, 8)
    assert budget("free", "resnet18", 4) == AdversaryBudget(4 / 255, 4 / 255, 1)
    assert budget("free-amd", "c2f2+512", 77) == AdversaryBudget(77 / 255, 3 / 255, 1)


@pytest.fixture
def on_disk(tmp_path) -> Path:
    """Folder of pictures of four categories with its table."""
    write_labelled(tmp_path, coloured_pictures(40), side=28)
    return tmp_path


def call(capsys, options: str) -> tuple[int, str, str]:
    return run_script("train_extractor", *options.split()), *capsys.readouterr()


def test_the_script_trains_an_embedder_that_loads_like_any_checkpoint(on_disk, capsys):
    out = on_disk / "models" / "hm" / "c2f2.pt"
    options = f"--images {on_disk}/images --labels {on_disk}/labels.csv --out {out} --gpu -1 "
    options += "--recipe hm --arch lenet+16 --ics 0.5 --eps 8/255 --steps 2 --epochs 2 --batch 8"
    code, printed, err = call(capsys, options)
    assert code == 0, err
    assert "R@1 among held-out pictures" in printed
    assert "under PGD-10 at 8/255" in printed
    extractor = load_extractor(None, out)
    assert (extractor.arch, extractor.n_features) == ("lenet+16", 16)
    assert extractor.network.head.weight.abs().sum() > 0
    assert "up to date" in call(capsys, options)[1]
    again = options.replace(str(out), f"{on_disk}/again.pt") + f" --pretrained {out}"
    assert call(capsys, again)[0] == 0
    assert "up to date" in call(capsys, again)[1]
    out.write_bytes((on_disk / "again.pt").read_bytes())
    assert "up to date" not in call(capsys, again)[1]


def test_the_script_trains_on_a_retrieval_set(on_disk, capsys):
    for item, category in enumerate(coloured_pictures(40).classes):
        folder = on_disk / "set" / "abcd"[category]
        folder.mkdir(parents=True, exist_ok=True)
        (on_disk / "images" / f"{item}.png").rename(folder / f"{item}.png")
    out = on_disk / "act.pt"
    options = f"--data {on_disk}/set --dataset folder --size 28 --out {out} --gpu -1 "
    options += "--recipe act --arch lenet+16 --steps 1 --epochs 1 --batch 4"
    code, printed, err = call(capsys, options)
    assert code == 0, err
    assert "R@1 among held-out pictures" in printed
    assert load_extractor(None, out).labels == ("a", "b", "c", "d")


def test_a_margin_of_0_is_one(capsys):
    options = "--arch resnet18+512 --recipe hm --dry_run"
    for given, margin in (("", None), (" --margin 0", 0.0)):
        printed = json.loads(call(capsys, options + given)[1])
        assert printed["recipe"]["Recipe"]["loss"]["EmbeddingLoss"]["margin"] == margin


def test_a_dry_run_prints_the_same_recipe_for_a_name_and_its_options(capsys):
    named = call(capsys, "-C cub:rres18ghmetsmi:ptripletN --dry_run")
    options = (
        "--arch resnet18+512 --recipe hm --loss triplet --metric N --source softhard --dest lga "
    )
    spelt = call(capsys, options + "--objective et --anchor free --ics 0.5 --dry_run")
    assert named[0] == spelt[0] == 0
    assert named[1] == spelt[1]
    recipe = json.loads(named[1])["recipe"]["Recipe"]
    assert recipe["adversary"]["Adversary"]["objective"] == "raise_hardness"
    assert recipe["terms"] == [[0.5, "intraclass_structure"]]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ("", "--out is missing"),
        ("--out x.pt", "say what to train on"),
        ("--out x.pt --data nowhere", "--data needs --dataset"),
        ("-C cub:rres18:ptripletN --recipe hm", "-C says what --recipe says"),
        ("-C cub:rres18:ptripletN --arch c2f2+512", "-C says what --arch says"),
        ("--recipe plain --replays 3", "--replays belongs to"),
        ("--recipe nothing", "unknown recipe nothing"),
        ("--steps 0", "--steps must be above 0"),
        ("-C cub:rres18:ptripletN --margin 0", "-C says what --margin says"),
        ("--recipe plain --ics 0", "--ics and --barlow belong to embedders"),
        ("--lr nan", "--lr must be a finite number"),
        ("--eps nan", "--eps must be a finite number"),
        ("--step inf", "--step_size must be a finite number"),
        ("--units inf", "--units must be a finite number"),
        ("--margin nan", "--margin must be a finite number"),
        *(
            (
                f"--arch c2f2+512 --recipe none --loss {name} --metric {loss.metrics[0]} --margin 0.1",
                f"--margin does not go with the loss {name}, which has none",
            )
            for name, loss in METRIC_LOSSES.items()
            if not loss.has_margin
        ),
        ("--ics nan", "--ics must be a finite number"),
        ("--barlow nan", "--barlow must be a finite number"),
        ("--eps 300", "--eps must be at most 255 grey levels"),
        ("--step 256/255", "--step_size must be at most 255 grey levels"),
    ],
)
def test_wrong_commands_are_one_line(options, problem, capsys):
    code, _, err = call(capsys, options)
    assert code == 2
    assert problem in err and err.count("\n") == 1


def test_the_help_names_every_recipe_and_miner(capsys):
    code, printed, _ = call(capsys, "--help")
    assert code == 0
    printed = re.sub(r"-\s+", "-", printed)  # lines break at hyphens
    words = set(re.findall(r"[\w-]+", printed))
    assert {*RECIPES, *MINERS} <= words
    without_margin = [name for name, loss in METRIC_LOSSES.items() if not loss.has_margin]
    excepted = re.search(r"of\s+all\s+but\s+([\w\s,]+?)\s+\(", printed)[1]
    assert re.split(r",\s+|\s+and\s+", excepted) == without_margin


def test_recipes_are_values():
    recipe = recipe_named("hm")
    assert recipe == recipe_named("hm") == copy.deepcopy(recipe)
    assert isinstance(recipe.adversary, Adversary)
    assert hash(recipe) == hash(recipe_named("hm"))
