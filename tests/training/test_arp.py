"""Attention rectification and preservation: terms, adversaries, keys, cost, and training."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from src.artifacts.errors import UserError
from src.attacks.registry import ATTACKS, PRESETS, attack_named
from src.datasets.image_set import ImageSet
from src.extractors.architectures import build_extractor
from src.extractors.attention import (
    Watched,
    class_directions,
    map_distance,
    overlap,
    top_cells,
)
from src.extractors.extractor import Extractor
from src.training.adversaries import AdversaryBudget, AttackAdversary, Gate
from src.training.arp_keys import KEYS, as_published, parse_keys, with_keys
from src.training.attention import Attention, Cells, Preserve, Rectify, batch_norms
from src.training.cost import cost_of
from src.training.loop import Schedule, train
from src.training.losses import MixedCrossEntropy
from src.training.objectives import misclassify
from src.training.options import PUBLISHED_ARP
from src.training.pictures import UNCHANGED
from src.training.recipes import CLASSIFIER_ADVERSARIES, RECIPES
from src.training.steps import State, perturbed_views, set_mode, train_step
from src.training.views import Views
from tests.image_sets import image_set, tensors
from tests.scripts import run_script

EPS = 8 / 255
ATTENTIVE = ("preserve", "rectify", "arp", "arp_strong")


def shapes(n: int = 32, side: int = 32, seed: int = 0) -> ImageSet:
    """Draw a bright square or a bright cross at a random place on a dark ground."""
    generator = torch.Generator().manual_seed(seed)
    categories = torch.arange(n) % 2
    pixels = torch.randint(0, 60, (n, 3, side, side), generator=generator)
    places = torch.randint(2, side - 12, (n, 2), generator=generator).tolist()
    for picture, (top, left), category in zip(pixels, places, categories.tolist(), strict=True):
        window = picture[:, top : top + 10, left : left + 10]
        if category:
            window[:, 4:6] += 150
            window[:, :, 4:6] += 150
        else:
            window += 150
    return image_set(pixels.clamp(0, 255), categories, ("square", "cross"))


def network(arch: str = "cifar_resnet8", n_classes: int = 2) -> Extractor:
    torch.manual_seed(0)
    return build_extractor(arch, [f"kind {k}" for k in range(n_classes)])


def batch(n: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    pixels, classes = tensors(shapes(n))
    return pixels.float() / 255, classes


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def cheap(name: str, steps: int = 2):
    recipe = RECIPES[name]
    return replace(
        recipe, adversary=replace(recipe.adversary, budget=AdversaryBudget(EPS, EPS / 2, steps))
    )


def views_of(
    recipe, extractor: Extractor | None = None, n: int = 8, dtype: torch.dtype = torch.float32
) -> Views:
    extractor, (images, labels) = extractor or network(), batch(n)
    set_mode(extractor, recipe.batch_norm)
    state = State.of(recipe, extractor, n_steps=10)
    return perturbed_views(extractor, recipe, state, images.to(dtype), labels, generator())


def attentive_views(points: torch.Tensor | None = None, arch: str = "cifar_resnet8") -> Views:
    """Return views of benign and perturbed images in evaluation mode."""
    images, labels = batch()
    watched, attention = Watched(network(arch).eval()), Attention(map="gradcam")
    points = images.flip(3) if points is None else points
    return Views(
        watched, images, labels, "N", None, generator(), points=points, read_map=attention.maps
    )


def test_preservation_is_zero_for_equal_maps_only():
    images, _ = batch()
    for kind, norm in (("l2", "l2"), ("l1", "l2"), ("cos", "l2"), ("js", "sum"), ("js", "softmax")):
        same = Preserve(norm=norm, distance=kind)(attentive_views(images.clone()))
        other = Preserve(norm=norm, distance=kind)(attentive_views())
        assert same.item() == pytest.approx(0, abs=1e-6) and other > 1e-8


def test_distances_of_maps_by_hand():
    first, second = torch.tensor([[[1.0, 0.0]]]), torch.tensor([[[0.0, 1.0]]])
    assert map_distance(first, second, "l2").item() == 2
    assert map_distance(first, second, "l1").item() == 2
    assert map_distance(first, second, "cos").item() == 1
    assert map_distance(first, second, "js").item() == pytest.approx(np.log(2))
    with pytest.raises(ValueError, match="unknown distance"):
        map_distance(first, second, "max")


def test_a_divergence_of_maps_with_empty_cells_has_a_finite_gradient():
    maps = torch.tensor([[[1.0, 0.0, 0.0]]], requires_grad=True)
    map_distance(maps, torch.tensor([[[0.5, 0.5, 0.0]]]), "js").backward()
    assert maps.grad.isfinite().all()


def test_rectification_against_a_loop():
    """The term is -1/2 of the mean over images of the squared change without the largest cell."""
    views = attentive_views()
    extractor = views.network.extractor
    expected = 0.0
    for images, maps in ((views.images, views.benign_map), (views.points, views.perturbed_map)):
        for image, one in zip(images, maps.detach(), strict=True):
            cells = one.flatten().argsort(descending=True)[:8]
            erased = image.clone()
            for cell in cells.tolist():
                row, column = divmod(cell, 8)
                erased[:, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4] = extractor.mean
            pair = extractor(torch.stack([image, erased])).logits.softmax(dim=1)
            expected -= 0.5 * (pair[0] - pair[1]).square().sum().item() / len(images)
    assert Rectify()(views).item() == pytest.approx(expected, rel=1e-4)
    clean, adv = (Rectify(branches=kind)(views).item() for kind in ("clean", "adv"))
    assert clean + adv == pytest.approx(expected, rel=1e-4)


def test_rectification_every_other_step_and_capped():
    views = attentive_views()
    whole = Rectify()(views)
    assert Rectify(every=2)(views).item() == pytest.approx(2 * whole.item())
    views.step = 1
    assert Rectify(every=2)(views) == 0
    assert Rectify(cap=0.0)(views) == 0
    assert Rectify(cap=2.0)(views).item() == pytest.approx(whole.item())


def test_no_gradient_goes_through_a_hard_mask_and_one_through_a_soft_one():
    maps = torch.randn(2, 8, 8, requires_grad=True)
    assert Cells("hard_topq").of(maps).dtype == torch.bool
    assert Cells("hard_mean").of(maps).dtype == torch.bool
    assert Cells("soft").of(maps).requires_grad


def test_published_weights_on_a_toy_map():
    """8 (CE + CE') + 4 L_r + L_p: per image 0.4 |f - f_m|^2 at 10 classes, and batch x |g - g'|^2."""
    recipe = as_published(RECIPES["arp"])
    (weight_p, preserve), (weight_r, rectify) = recipe.terms
    extractor = network(n_classes=10).eval()
    images, labels = batch(5)
    views = Views(Watched(extractor), images, labels, "N", None, generator())
    views.points = images.flip(2)
    views.read_map = lambda watched, attended, labels: attended.maps.mean(dim=1)
    erased = []
    for pictures, maps in ((images, views.benign_map), (views.points, views.perturbed_map)):
        soft = maps.flatten(1).softmax(dim=1).view_as(maps)
        large = functional.interpolate(soft[:, None], images.shape[2:], mode="bilinear")
        mask = large > large.mean(dim=(1, 2, 3), keepdim=True)
        erased.append((large, torch.where(mask, torch.tensor(0.5), pictures)))
    p, q = views.benign.logits.softmax(dim=1), views.perturbed.logits.softmax(dim=1)
    p_m, q_m = (extractor(pictures).logits.softmax(dim=1) for _, pictures in erased)
    change = (p - p_m).square().sum(dim=1).mean() + (q - q_m).square().sum(dim=1).mean()
    assert (weight_r * rectify(views)).item() == pytest.approx(-0.4 * change.item(), rel=1e-4)
    moved = (erased[0][0] - erased[1][0]).square().sum(dim=(1, 2, 3)).mean()
    assert (weight_p * preserve(views)).item() == pytest.approx(5 * moved.item(), rel=1e-4)
    cross_entropies = functional.cross_entropy(views.benign.logits, labels)
    cross_entropies = cross_entropies + functional.cross_entropy(views.perturbed.logits, labels)
    assert recipe.loss(views).item() == pytest.approx(8 * cross_entropies.item(), rel=1e-6)
    assert PUBLISHED_ARP.eps == pytest.approx(19.125)


def test_published_maps_are_scaled_by_the_gradient_of_the_whole_batch():
    extractor = network("cifarnet").eval()
    watched, (images, labels) = Watched(extractor), batch(4)
    attended = watched(images)
    gradient = watched.gradient(attended, class_directions(extractor, labels))
    scale = gradient.square().mean().sqrt() + 1e-5
    plain = watched.attention(attended, class_directions(extractor, labels))
    published = Attention(map="gradcam", scale="batch").maps(watched, attended, labels)
    torch.testing.assert_close(published, plain / scale, rtol=1e-4, atol=1e-6)


def descend(term, arch: str = "cifar_resnet8", lr: float = 0.05, steps: int = 8) -> list[float]:
    """Return values of ``term`` while it alone is minimised, on images and their mirror images."""
    extractor = network(arch).eval()
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=lr)
    values = []
    for _ in range(steps):
        images, labels = batch()
        views = Views(Watched(extractor), images, labels, "N", None, generator())
        views.points, views.read_map = images.flip(3), Attention(map="gradcam").maps
        value = term(views)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    return values


@pytest.mark.parametrize("arch", ["cifar_resnet8", "cifarnet"])
def test_each_term_can_be_learnt_alone(arch):
    """Preservation falls, and the predictions with and without the attended cells separate."""
    preserved = descend(Preserve(), arch)
    assert preserved[-1] < 0.8 * preserved[0]
    rectified = descend(Rectify(), arch, lr=1.0, steps=12)
    assert rectified[-1] < 1.5 * rectified[0] < 0


@pytest.mark.parametrize("name", [*ATTENTIVE, "pgd_at", "stepll_at"])
def test_budget_and_range_hold(name):
    views = views_of(cheap(name))
    assert (views.points - views.images).abs().max() <= EPS + 1e-6
    assert views.points.min() >= 0 and views.points.max() <= 1
    assert (views.points != views.images).any()


@pytest.mark.parametrize("name", CLASSIFIER_ADVERSARIES)
def test_adversaries_of_classifiers(name):
    """Least-likely adversaries lower the loss of the least likely class of the benign image."""
    recipe = replace(RECIPES["pgd_at"], adversary=CLASSIFIER_ADVERSARIES[name])
    recipe = replace(
        recipe, adversary=replace(recipe.adversary, budget=AdversaryBudget(EPS, EPS / 4, 4))
    )
    extractor = network(n_classes=4)
    views = views_of(recipe, extractor)
    extractor.eval()
    benign, moved = extractor(views.images).logits, extractor(views.points).logits
    assert (views.points - views.images).abs().max() <= EPS + 1e-6
    if "ll" in name:
        classes = benign.argmin(dim=1)
        losses = [functional.cross_entropy(logits, classes) for logits in (benign, moved)]
        assert losses[1] < losses[0]
    else:
        losses = [functional.cross_entropy(logits, views.classes) for logits in (benign, moved)]
        assert losses[1] > losses[0]


SEARCHES = {"autoattack", "spsa", "nes", "square", "cw_l2"}
"""Attacks that take a thousand passes or more."""


@pytest.mark.parametrize("name", sorted({*ATTACKS, *PRESETS} - SEARCHES))
def test_every_attack_is_an_adversary_by_its_name(name):
    adversary = AttackAdversary(
        "all", misclassify, budget=AdversaryBudget(EPS, EPS / 4, 4), attack=name
    )
    recipe = replace(RECIPES["pgd_at"], adversary=adversary)
    extractor = network()
    state = torch.random.get_rng_state()
    views, again = views_of(recipe, extractor), views_of(recipe, extractor)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.equal(views.points, again.points)
    assert views.points.min() >= 0 and views.points.max() <= 1
    assert not views.points.requires_grad and (views.points != views.images).any()
    if attack_named(name, 8).budget:
        assert (views.points - views.images).abs().max() <= EPS + 1e-6


def test_an_attack_of_the_table_takes_the_steps_of_the_budget_and_a_preset_its_own():
    budget = AdversaryBudget(EPS, EPS / 4, 4)
    steps = {
        name: AttackAdversary("all", misclassify, budget=budget, attack=name).steps
        for name in ("pgd", "pgd20", "ddn")
    }
    assert steps == {"pgd": 4, "pgd20": 20, "ddn": 100}


def test_step_ll_is_the_published_step():
    """In double precision rounding turns no sign of a gradient."""
    recipe = cheap("stepll_at")
    extractor = network(n_classes=4).double()
    views = views_of(recipe, extractor, dtype=torch.float64)
    extractor.eval()
    images = views.images.clone().requires_grad_()
    logits = extractor(images).logits
    loss = functional.cross_entropy(logits, logits.argmin(dim=1), label_smoothing=0.1)
    (gradient,) = torch.autograd.grad(loss, images)
    expected = (views.images - EPS * gradient.sign()).clamp(0, 1)
    torch.testing.assert_close(views.points, expected)


def test_a_gate_goes_on_only_with_images_whose_attention_has_stayed():
    extractor = network().eval()
    recipe = cheap("arp_strong", steps=1)

    def views_with(gate: Gate | None) -> Views:
        adversary = replace(recipe.adversary, gate=gate)
        return views_of(replace(recipe, adversary=adversary), extractor)

    before = views_with(None).points
    watched, (images, labels) = Watched(extractor.eval()), batch()
    directions = class_directions(extractor, labels)
    cells = [
        top_cells(watched.attention(watched(points), directions), 0.5)
        for points in (images, before)
    ]
    overlaps = overlap(*cells)
    threshold = overlaps.quantile(0.4).item()
    stayed = overlaps > threshold
    assert 0 < stayed.sum() < len(stayed)
    for tau, expected in ((-1.0, stayed | True), (threshold, stayed), (1.0, stayed & False)):
        points = views_with(Gate(tau, steps=1, cells=Cells(share=0.5))).points
        assert torch.equal((points != before).flatten(1).any(dim=1), expected)
        noted = views_with(Gate(tau, steps=3, cells=Cells(share=0.5))).noted()
        assert noted["selected"] == expected.float().mean()
    assert "selected" not in views_with(None).noted()


def test_one_forward_of_both_and_one_of_what_is_erased():
    extractor = network()
    passes = []
    recipe = cheap("arp")
    state = State.of(recipe, extractor, n_steps=10)
    extractor.network.register_forward_pre_hook(lambda _, inputs: passes.append(len(inputs[0])))
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=0.1)
    train_step(extractor, [optimizer], recipe, state, *batch(), generator())
    assert passes == [8, 8, 16, 16]


def test_the_terms_grow_during_the_warm_up():
    recipe = RECIPES["arp"]
    assert [recipe.share_of_terms(done) for done in (0, 0.1, 0.2, 1)] == [0, 0.5, 1, 1]
    assert replace(recipe, warm_up=0.0).share_of_terms(0) == 1
    first, plain = network(), network()
    for extractor, name in ((first, "arp"), (plain, "pgd_at")):
        mixed = replace(cheap(name), clip_norm=None)
        optimizer = torch.optim.SGD(extractor.network.parameters(), lr=0.1)
        state = State.of(mixed, extractor, n_steps=10)
        train_step(extractor, [optimizer], mixed, state, *batch(), generator())
    untrained = network().network.parameters()
    both = zip(first.network.parameters(), plain.network.parameters(), untrained, strict=True)
    for mine, other, before in both:
        # Rounding can turn the sign of a pixel's gradient, which moves little of the whole.
        assert (mine - other).norm() <= 0.01 * (other - before).norm() + 1e-6


def test_gradients_are_clipped():
    recipe = replace(cheap("pgd_at"), clip_norm=1e-3)
    extractor = network()
    before = torch.cat([p.detach().flatten() for p in extractor.network.parameters()])
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=1.0)
    train_step(extractor, [optimizer], recipe, State(n_steps=1), *batch(), generator())
    after = torch.cat([p.detach().flatten() for p in extractor.network.parameters()])
    assert (after - before).norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize("kind", ["eval", "separate", "shared"])
def test_batch_norm_of_erased_images(kind):
    extractor = network().train()
    norm = extractor.network.bn1
    before = norm.running_mean.clone()
    images, _ = batch()
    with batch_norms(extractor, kind):
        logits = extractor(images).logits
    assert norm.training and norm.momentum == 0.1
    assert torch.equal(norm.running_mean, before) == (kind != "shared")
    again = network().train(kind != "eval")
    torch.testing.assert_close(logits, again(images).logits)


def test_a_frozen_teacher_is_the_network_before_training():
    recipe = cheap("preserve")
    recipe = replace(recipe, terms=((0.5, Preserve(teacher="frozen")),))
    extractor = network()
    state = State.of(recipe, extractor, n_steps=4)
    first = [parameter.clone() for parameter in extractor.network.parameters()]
    optimizer = torch.optim.SGD(extractor.network.parameters(), lr=0.1)
    for _ in range(2):
        train_step(extractor, [optimizer], recipe, state, *batch(), generator())
    teacher = list(state.teacher.extractor.network.parameters())
    assert all(torch.equal(a, b) for a, b in zip(first, teacher, strict=True))
    assert not any(parameter.requires_grad for parameter in teacher)
    assert state.seen[-1].keys() >= {"loss", "preserve", "accuracy", "accuracy_perturbed"}


def test_gradient_of_the_benign_map_stops_where_it_is_the_standard():
    views = attentive_views()
    views.benign.maps.retain_grad()
    Preserve(teacher="stopgrad")(views).backward()
    assert views.benign.maps.grad is None and views.perturbed.maps.requires_grad
    views = attentive_views()
    views.benign.maps.retain_grad()
    Preserve(teacher="self")(views).backward()
    assert views.benign.maps.grad.abs().sum() > 0


def test_every_key_changes_the_recipe():
    values = {
        "preset": "paper", "lambda_rect": "0.7", "lambda_pres": "0.7", "layer": "layer3",
        "map": "energy", "label": "pred", "norm": "softmax_2", "distance": "cos",
        "teacher": "frozen", "mask": "soft", "mask_q": "0.3", "fill": "blur",
        "rect_branches": "adv", "rect_every": "3", "rect_cap": "1", "select_iou": "0.2",
        "select_max_steps": "2", "bn_erased": "shared", "warmup_frac": "0.5",
    }  # fmt: skip
    assert values.keys() == KEYS.keys()
    recipe = RECIPES["arp_strong"]
    for key, value in values.items():
        assert with_keys(recipe, parse_keys([f"{key}={value}"])) != recipe
    unchanged = ["preset=modern", "lambda_rect=.25", "mask_q=.125", "select_iou=.5"]
    assert with_keys(recipe, parse_keys(unchanged)) == recipe
    several = with_keys(recipe, parse_keys(["preset=paper", "lambda_pres=3", "fill=mean"]))
    assert [weight for weight, _ in several.terms] == [3, 4]
    assert several.loss == MixedCrossEntropy(8.0) and several.terms[1][1].fill == "mean"


@pytest.mark.parametrize(
    ("recipe", "pairs", "message"),
    [
        ("arp", ["mask"], "write KEY=VALUE"),
        ("arp", ["colour=red"], "write KEY=VALUE"),
        ("arp", ["mask_q=2"], "from 1e-06 to 1"),
        ("arp", ["mask_q=many"], "could not convert"),
        ("arp", ["norm=softmax_0"], "unknown normalisation"),
        ("arp", ["rect_every=0"], "at least 1"),
        ("arp", ["mask=soft", "mask=soft"], "given twice"),
        ("arp", ["distance=js"], "compares distributions"),
        ("arp", ["select_iou=.2"], "belong to the recipe arp_strong"),
        ("preserve", ["mask=soft"], "no such term"),
        ("madry", ["mask=soft"], "belongs to the recipes"),
    ],
)
def test_wrong_keys_are_one_line(recipe, pairs, message):
    with pytest.raises(UserError, match=message):
        with_keys(RECIPES[recipe], parse_keys(pairs))


def test_costs_are_those_of_the_passes():
    def total(name: str, steps: int = 1, **changes: object) -> float:
        recipe = cheap(name, steps) if name != "plain" else RECIPES[name]
        return cost_of(replace(recipe, **changes)).total

    assert total("plain") == 1
    assert total("pgd_at", 10) == pytest.approx(8.67, abs=0.01)
    assert total("preserve", 10) == total("pgd_at", 10)
    assert [total("arp", k) for k in (1, 7, 10)] == pytest.approx([4.67, 8.67, 10.67], abs=0.01)
    assert total("stepll_at") == pytest.approx(2 + 2 / 3 + 1 / 3)
    one_branch = ((0.25, Rectify(branches="clean", every=2)),)
    assert total("rectify", terms=one_branch) == pytest.approx(2 / 3 + 2.5)
    assert cost_of(cheap("arp", 1), closed_form=False).total == pytest.approx(5.17, abs=0.01)


def written_set(path) -> None:
    pictures = shapes(60)
    np.savez(path, x=pictures.pixels(), y=pictures.classes)


def test_the_script_trains_logs_and_continues_to_the_same_bytes(tmp_path, monkeypatch, capsys):
    written_set(tmp_path / "set.npz")
    common = (
        "--data", tmp_path / "set.npz", "--dataset", "cifar10", "--arch", "cifar_resnet8",
        "--recipe", "arp", "--arp", "teacher=frozen", "mask_q=.2", "--eps", 8, "--steps", 1,
        "--units", 10, "--batch", 16, "--gpu", -1,
    )  # fmt: skip
    assert run_script("train_extractor", *common, "--out", tmp_path / "whole" / "net.pt") == 0
    assert "5.00 units a step (0.67 of them the attack), 2 passes" in capsys.readouterr().out
    lines = (tmp_path / "whole" / "net_log.tsv").read_text().splitlines()
    assert lines[0].split("\t") == [
        "epoch", "loss", "preserve", "rectify", "accuracy", "accuracy_perturbed", "attention_iou",
    ]  # fmt: skip
    assert [line.split("\t")[0] for line in lines[1:]] == ["1", "2"]

    stopped = tmp_path / "stopped" / "net.pt"
    real, calls = train_step, []

    def dies(*arguments):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return real(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr("src.training.loop.train_step", dies)
        assert run_script("train_extractor", *common, "--out", stopped) != 0
    assert not stopped.exists()
    assert run_script("train_extractor", *common, "--out", stopped) == 0
    assert stopped.read_bytes() == (tmp_path / "whole" / "net.pt").read_bytes()
    first, second = tmp_path / "whole" / "net_log.tsv", tmp_path / "stopped" / "net_log.tsv"
    assert first.read_text() == second.read_text()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--recipe", "arp", "--arch", "lenet_zhu"], "no closed form"),
        (["--recipe", "arp", "--arp", "layer=fc"], "no spatial layer"),
        (["--recipe", "plain", "--adversary", "pgd"], "does not go with recipe plain"),
        (["--recipe", "arp", "--units", 3, "--epochs", 2], "one of --epochs and --units"),
        (["--recipe", "hm", "--arch", "c2f2+8", "--units", 3], "--units is for classifiers"),
    ],
)
def test_wrong_commands_are_one_line(tmp_path, capsys, arguments, message):
    written_set(tmp_path / "set.npz")
    place = ("--data", tmp_path / "set.npz", "--dataset", "cifar10", "--gpu", -1)
    assert run_script("train_extractor", *place, "--out", tmp_path / "net.pt", *arguments) == 2
    *warnings, error = capsys.readouterr().err.splitlines()
    assert error.startswith("error: ") and message in error
    assert all(line.startswith("warning: ") for line in warnings)
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_all_pictures_of_a_set_can_be_trained_on(tmp_path, capsys):
    written_set(tmp_path / "set.npz")
    common = ("--data", tmp_path / "set.npz", "--dataset", "cifar10", "--arch", "cifar_resnet8")
    out = ("--epochs", 1, "--gpu", -1, "--out", tmp_path / "net.pt")
    assert run_script("train_extractor", *common, *out, "--part", "all") == 0
    printed = capsys.readouterr().out
    assert "60 pictures in 2 categories to train on, 0 held out" in printed
    assert "accuracy" not in printed


def test_a_dry_run_prints_the_recipe(capsys):
    assert (
        run_script("train_extractor", "--recipe", "arp", "--arp", "preset=paper", "--dry_run") == 0
    )
    printed = json.loads(capsys.readouterr().out)
    assert printed["optimizer"] == "adam" and printed["lr"] == 1e-4 and printed["batch_size"] == 50
    assert printed["recipe"]["Recipe"]["loss"] == {
        "MixedCrossEntropy": {"weight": 8.0, "metric": "N"}
    }


def test_preservation_is_learnt_beside_the_classes(tmp_path):
    """Its term falls while the classes are learnt, and ends lower than without weight."""
    schedule = Schedule(epochs=5, batch_size=16, lr=0.02, augmentation=UNCHANGED)
    ends = {}
    for weight in (0.0, 10.0):
        recipe = replace(cheap("preserve", 1), terms=((weight, Preserve()),), warm_up=0.0)
        log = train(network(), shapes(48), recipe, schedule, tmp_path / f"{weight}.pt")
        assert log[-1]["loss"] < log[0]["loss"]
        ends[weight] = log[-1]["preserve"]
    assert ends[10.0] < 0.5 * ends[0.0]
