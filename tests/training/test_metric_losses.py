"""Losses of metric learning against loops, pytorch-metric-learning and finite differences."""

import math

import numpy as np
import pytest
import torch
from pytorch_metric_learning import distances as library_distances
from pytorch_metric_learning import losses, reducers
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.training import metric_losses
from src.training.distances import DISTANCES, distance, pairwise_distances, to_space
from src.training.metric_losses import (
    METRIC_LOSSES,
    contrastive_loss,
    lifted_loss,
    margin_loss,
    metric_loss,
    multi_similarity_loss,
    second_negatives,
    triplet_loss,
)
from src.training.miners import MINERS, Triplets

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 3, 3])
N = len(LABELS)
EVERY = [(name, metric) for name, loss in METRIC_LOSSES.items() for metric in loss.metrics]


def random_batch(seed: int = 0, dim: int = 6) -> tuple[Tensor, Triplets]:
    generator = torch.Generator().manual_seed(seed)
    centres = torch.randn(4, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(N, dim, generator=generator, dtype=torch.float64)
    embeddings = 0.4 * (centres[LABELS] + noise)
    return embeddings, MINERS["random"](embeddings, LABELS, generator)


# Distances


def distance_by_hand(a: np.ndarray, b: np.ndarray, metric: str) -> float:
    if metric == "C":
        return 1 - a @ b / np.linalg.norm(a) / np.linalg.norm(b)
    if metric == "N":
        a, b = a / np.linalg.norm(a), b / np.linalg.norm(b)
    return np.linalg.norm(a - b)


@pytest.mark.parametrize("metric", DISTANCES)
def test_distances_are_those_of_the_definition(metric):
    a, b = torch.randn(2, 7, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    expected = [[distance_by_hand(x, y, metric) for y in b.numpy()] for x in a.numpy()]
    np.testing.assert_allclose(pairwise_distances(a, b, metric), expected, atol=1e-12)
    np.testing.assert_allclose(distance(a, b, metric), np.diag(expected), atol=1e-12)
    if metric != "E":
        assert distance(a, -a, metric).tolist() == pytest.approx([2] * 7)


@pytest.mark.parametrize("metric", DISTANCES)
def test_gradients_are_zero_where_embeddings_coincide(metric):
    a = torch.randn(40, 64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    for apart in (
        distance(a, a.detach(), metric),
        pairwise_distances(a, a.detach(), metric).diag(),
    ):
        (gradient,) = torch.autograd.grad(apart.sum(), a)
        assert apart.abs().max() < 1e-6
        # 1 - cosine is flat there up to rounding; the others have a kink, whose gradient we set.
        assert gradient.abs().max() < 1e-6 if metric == "C" else torch.all(gradient == 0)


def test_small_distances_are_exact():
    a = torch.randn(100, 512, generator=torch.Generator().manual_seed(0))
    b = a + 1e-5 * torch.randn(100, 512, generator=torch.Generator().manual_seed(1))
    expected = distance(a.double(), b.double(), "N")
    torch.testing.assert_close(
        pairwise_distances(a, b, "N").diag().double(), expected, rtol=2e-3, atol=0
    )


@pytest.mark.parametrize("metric", DISTANCES)
def test_distances_pass_gradcheck(metric):
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 4, 5, dtype=torch.float64, generator=generator).requires_grad_()
    assert torch.autograd.gradcheck(lambda x, y: distance(x, y, metric), (a, b))
    assert torch.autograd.gradcheck(lambda x, y: pairwise_distances(x, y, metric), (a, b))


def test_a_zero_embedding_gives_no_nan():
    zero = torch.zeros(1, 4, requires_grad=True)
    for metric in DISTANCES:
        apart = distance(zero, torch.ones(1, 4), metric)
        assert torch.autograd.grad(apart.sum(), zero)[0].isfinite().all()


def test_an_unknown_metric_is_refused():
    with pytest.raises(ValueError, match="unknown metric 'X'"):
        to_space(torch.ones(1, 2), "X")


# Every loss, as a loop


def active_mean(values: list[float]) -> float:
    active = [value for value in values if value > 0]
    return sum(active) / len(active) if active else 0.0


def log_sum_exp(values: list[float]) -> float:
    return math.log(sum(math.exp(value) for value in values)) if values else -math.inf


def mean_norm(x: np.ndarray) -> float:
    return float(np.mean([np.linalg.norm(row) for row in x]))


class ByHand:
    """Losses by loops over the triplets of one batch."""

    def __init__(self, embeddings: Tensor, triplets: Triplets, metric: str) -> None:
        self.raw = embeddings.numpy()
        self.unit = self.raw / np.linalg.norm(self.raw, axis=1, keepdims=True)
        self.y = LABELS.tolist()
        self.triplets = list(zip(*(column.tolist() for column in triplets), strict=True))
        self.metric = metric
        self.gamma = 1.0 if metric == "E" else 0.2

    def d(self, i: int, j: int) -> float:
        return distance_by_hand(self.raw[i], self.raw[j], self.metric)

    def same(self, i: int) -> list[int]:
        return [j for j in range(N) if self.y[j] == self.y[i]]

    def others(self, i: int) -> list[int]:
        return [j for j in range(N) if self.y[j] != self.y[i]]

    def triplet(self) -> float:
        return np.mean(
            [max(self.d(a, p) - self.d(a, n) + self.gamma, 0) for a, p, n in self.triplets]
        )

    tripxa = triplet

    def contrast(self) -> float:
        if self.metric == "C":
            a, p, n = (
                torch.tensor(self.raw)[list(rows)] for rows in zip(*self.triplets, strict=True)
            )
            one = torch.ones(len(a))
            pull = functional.cosine_embedding_loss(a, p, one)
            return float(pull + functional.cosine_embedding_loss(a, n, -one))
        pull = np.mean([self.d(a, p) for a, p, _ in self.triplets])
        return pull + active_mean([1 - self.d(a, n) for a, _, n in self.triplets])

    def margin(self) -> float:
        pull = active_mean([self.d(a, p) - 0.6 + 0.2 for a, p, _ in self.triplets])
        return pull + active_mean([0.6 - self.d(a, n) + 0.2 for a, _, n in self.triplets])

    def snr(self) -> float:
        x = self.raw if self.metric == "E" else self.unit
        noise = [
            (np.var(x[a] - x[p]) - np.var(x[a] - x[n])) / np.var(x[a]) + 0.2
            for a, p, n in self.triplets
        ]
        return active_mean(noise) + 0.005 * np.mean([abs(sum(x[a])) for a, _, _ in self.triplets])

    def second_negative(self, a: int, n: int) -> int | None:
        for step in range(1, N):
            candidate = (n + step) % N
            if self.y[candidate] not in (self.y[a], self.y[n]):
                return candidate
        return None

    def quad(self) -> float:
        second = [
            max(self.d(a, p) - self.d(n, self.second_negative(a, n)) + self.gamma / 2, 0)
            for a, p, n in self.triplets
        ]
        return self.triplet() + np.mean(second)

    def rhom(self) -> float:
        back = [
            max(self.d(n, n + 1 if n % 2 == 0 else n - 1) - self.d(n, a) + self.gamma, 0)
            for a, _, n in self.triplets
        ]
        return self.triplet() + np.mean(back)

    def lift(self) -> float:
        terms = []
        for a, _, _ in self.triplets:
            pull = log_sum_exp([self.d(a, p) for p in self.same(a) if p != a])
            push = log_sum_exp([1 - self.d(a, n) for n in self.others(a)])
            terms.append(max(pull + push, 0))
        return np.mean(terms) + 0.005 * mean_norm(self.raw)

    def npair(self) -> float:
        terms = [
            math.log(
                1
                + sum(math.exp(self.unit[a] @ (self.raw[n] - self.raw[p])) for n in self.others(a))
            )
            for a, p, _ in self.triplets
        ]
        return np.mean(terms) + 0.005 * mean_norm(self.raw)

    def ms(self) -> float:
        terms = []
        for a, _, _ in self.triplets:
            s = self.unit @ self.unit[a]
            farthest = min(s[j] for j in self.same(a))
            nearest = max(s[j] for j in self.others(a))
            positives = [s[j] for j in self.same(a) if s[j] - 0.1 < nearest]
            negatives = [s[j] for j in self.others(a) if s[j] + 0.1 > farthest]
            if positives and negatives:
                pull = math.log(1 + sum(math.exp(-2 * (value - 0.5)) for value in positives)) / 2
                push = math.log(1 + sum(math.exp(40 * (value - 0.5)) for value in negatives)) / 40
                terms.append(pull + push)
        return np.mean(terms) if terms else 0.0

    def ice(self) -> float:
        s = [
            [self.unit[a] @ self.unit[p] for _, p, _ in self.triplets] for a, _, _ in self.triplets
        ]
        t = range(len(s))
        rows = [log_sum_exp(s[k]) - s[k][k] for k in t]
        columns = [log_sum_exp([s[j][k] for j in t]) - s[k][k] for k in t]
        return (np.mean(rows) + np.mean(columns)) / 2

    def angular(self) -> float:
        tan2 = math.tan(math.radians(40)) ** 2
        x, terms = self.unit, []
        for a, p, _ in self.triplets:
            excess = [
                4 * tan2 * (x[a] + x[p]) @ self.raw[n] - 2 * (1 + tan2) * x[a] @ x[p]
                for n in self.others(a)
            ]
            terms.append(math.log(1 + sum(math.exp(value) for value in excess)))
        return np.mean(terms)

    def nca(self) -> float:
        terms = []
        for i in range(N):
            weights = [
                0 if j == i else math.exp(-((self.unit[i] - self.unit[j]) ** 2).sum())
                for j in range(N)
            ]
            terms.append(-math.log(sum(weights[j] for j in self.same(i)) / sum(weights)))
        return np.mean(terms)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("name", "metric"), EVERY)
def test_losses_are_those_of_a_loop(name, metric, seed):
    embeddings, triplets = random_batch(seed)
    loss = METRIC_LOSSES[name]
    value = loss(embeddings, LABELS, triplets, metric, **loss.parameters())
    expected = getattr(ByHand(embeddings, triplets, metric), name)()
    assert expected > 0
    assert value.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("name", "metric"), EVERY)
def test_losses_pass_gradcheck(name, metric):
    embeddings, triplets = random_batch(1)

    def value(points: Tensor) -> Tensor:
        return METRIC_LOSSES[name](points, LABELS, triplets, metric)

    if name == "tripxa":
        fixed = embeddings[triplets.anchor]

        def analytic(points: Tensor) -> Tensor:
            return triplet_loss(fixed, *triplets.of(points)[1:], metric)

        points = embeddings.clone().requires_grad_()
        torch.testing.assert_close(
            torch.autograd.grad(value(points), points),
            torch.autograd.grad(analytic(points), points),
        )
    else:
        assert torch.autograd.gradcheck(value, embeddings.requires_grad_())


# The same losses in pytorch-metric-learning, where it has them


def library_metric(metric: str) -> library_distances.BaseDistance:
    if metric == "C":
        return library_distances.CosineSimilarity()
    return library_distances.LpDistance(normalize_embeddings=metric == "N")


@pytest.mark.parametrize("metric", DISTANCES)
def test_triplet_loss_is_the_library_s(metric):
    embeddings, triplets = random_batch()
    theirs = losses.TripletMarginLoss(
        0.3, distance=library_metric(metric), reducer=reducers.MeanReducer()
    )
    ours = triplet_loss(*triplets.of(embeddings), metric, 0.3)
    torch.testing.assert_close(ours, theirs(embeddings, LABELS, tuple(triplets)))


@pytest.mark.parametrize("metric", "EN")
def test_contrastive_loss_is_the_library_s(metric):
    embeddings, triplets = random_batch()
    theirs = losses.ContrastiveLoss(distance=library_metric(metric))
    ours = contrastive_loss(*triplets.of(embeddings), metric)
    torch.testing.assert_close(ours, theirs(embeddings, LABELS, tuple(triplets)))


@pytest.mark.parametrize("metric", "EN")
def test_margin_loss_is_the_library_s_and_learns_the_same_beta(metric):
    embeddings, triplets = random_batch()
    theirs = losses.MarginLoss(
        margin=0.2,
        beta=0.6,
        learn_beta=True,
        distance=library_metric(metric),
        reducer=reducers.AvgNonZeroReducer(),
    )
    loss = METRIC_LOSSES["margin"]
    parameters = loss.parameters()
    expected = theirs(embeddings, LABELS, tuple(triplets))
    value = loss(embeddings, LABELS, triplets, metric, **parameters)
    torch.testing.assert_close(value, expected)
    value.backward()
    expected.backward()
    torch.testing.assert_close(parameters["beta"].grad.reshape(1), theirs.beta.grad.reshape(1))


@pytest.mark.parametrize("metric", "EN")
def test_lifted_loss_is_the_library_s_and_a_penalty(metric):
    embeddings, _ = random_batch()
    everyone = Triplets(torch.arange(N), torch.arange(N) ^ 1, torch.zeros(N, dtype=torch.int64))
    theirs = losses.GeneralizedLiftedStructureLoss(distance=library_metric(metric))
    ours = lifted_loss(embeddings, LABELS, everyone, metric)
    penalty = 0.005 * embeddings.norm(dim=1).mean()
    torch.testing.assert_close(ours, theirs(embeddings, LABELS) + penalty)


def test_signal_to_noise_ratios_are_the_library_s():
    embeddings, triplets = random_batch()
    anchor, positive, negative = triplets.of(functional.normalize(embeddings))
    ratio = library_distances.SNRDistance()
    noise = ratio(anchor, positive).diag() - ratio(anchor, negative).diag() + 0.2
    expected = noise[noise > 0].mean() + 0.005 * anchor.sum(dim=1).abs().mean()
    torch.testing.assert_close(METRIC_LOSSES["snr"](embeddings, LABELS, triplets, "N"), expected)


# Corners


def test_a_margin_of_zero_gives_the_gradient_of_distances():
    """This term keeps an anchor nearer to its perturbed image than to its positive."""
    generator = torch.Generator().manual_seed(0)
    anchor, attacked, positive = torch.randn(3, 50, 8, generator=generator).requires_grad_()
    value = triplet_loss(anchor, attacked, positive, "N", 0.0)
    apart = distance(anchor, attacked) - distance(anchor, positive)
    torch.testing.assert_close(value, apart.clamp_min(0).mean())
    gradients = torch.autograd.grad(value, (anchor, attacked, positive))
    nearer = apart < 0
    assert 5 < nearer.sum() < 45
    for gradient in gradients:
        assert (gradient[nearer] == 0).all()
        assert (gradient[~nearer].abs().sum(dim=1) > 0).all()
    same = triplet_loss(anchor, anchor, positive, "N", 0.0)
    assert same == 0
    assert torch.autograd.grad(same, anchor)[0].isfinite().all()


def test_reductions_of_the_triplet_loss():
    embeddings, triplets = random_batch()
    each = triplet_loss(*triplets.of(embeddings), reduction="none")
    assert each.shape == (N // 2,)
    assert triplet_loss(*triplets.of(embeddings)) == each.mean()
    assert triplet_loss(*triplets.of(embeddings), reduction="sum") == each.sum()


@pytest.mark.parametrize(("name", "metric"), EVERY)
@pytest.mark.parametrize("classes", [LABELS * 0, torch.arange(N) // 2, torch.arange(N) // 6])
def test_values_and_gradients_are_finite_whatever_the_labels(name, metric, classes):
    embeddings = torch.randn(N, 6, generator=torch.Generator().manual_seed(0))
    embeddings[1] = embeddings[0]
    embeddings[4] = embeddings[0]
    embeddings.requires_grad_()
    triplets = MINERS["softhard"](embeddings, classes, torch.Generator().manual_seed(0))
    value = METRIC_LOSSES[name](embeddings, classes, triplets, metric)
    assert value.shape == ()
    assert value >= -1e-6  # rounding of a loss of 0
    (gradient,) = torch.autograd.grad(value, embeddings)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("name", ["triplet", "snr", "quad", "rhom", "ms"])
def test_separated_classes_have_no_loss(name):
    classes = torch.arange(N) // 2
    embeddings = torch.eye(6)[classes].requires_grad_()
    triplets = MINERS["random"](embeddings, classes, torch.Generator().manual_seed(0))
    value = METRIC_LOSSES[name](embeddings, classes, triplets, "N")
    assert value.item() == pytest.approx(0.005 if name == "snr" else 0, abs=1e-7)
    if name != "snr":
        assert (torch.autograd.grad(value, embeddings)[0] == 0).all()


def test_a_descent_of_each_loss_separates_classes():
    """After a few steps positives are nearer than negatives, for every loss and metric."""
    for name, metric in EVERY:
        embeddings = random_batch(5)[0].requires_grad_()
        generator = torch.Generator().manual_seed(0)
        optimizer = torch.optim.Adam([embeddings], lr=0.05)
        for _ in range(60):
            triplets = MINERS["random"](embeddings, LABELS, generator)
            optimizer.zero_grad()
            METRIC_LOSSES[name](embeddings, LABELS, triplets, metric).backward()
            optimizer.step()
        apart = pairwise_distances(embeddings, embeddings, "N").detach()
        same = LABELS[:, None] == LABELS
        assert apart[same].mean() < 0.6 * apart[~same].mean(), (name, metric)


def test_second_negatives_have_a_third_label():
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    column = torch.tensor
    triplets = Triplets(column([0, 2, 4]), column([1, 3, 5]), column([2, 5, 0]))
    positions, exist = second_negatives(classes, triplets)
    assert positions.tolist() == [4, 0, 2]
    assert exist.all()
    two = Triplets(column([0, 2]), column([1, 3]), column([2, 0]))
    _, exist = second_negatives(classes.clamp_max(1), two)
    assert not exist.any()
    embeddings = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    loss = METRIC_LOSSES["quad"](embeddings, classes.clamp_max(1), two, "N")
    assert loss == triplet_loss(*two.of(embeddings))


def test_multi_similarity_ignores_anchors_without_hard_pairs():
    classes = torch.tensor([0, 0, 1, 1, 2, 2])
    angles = torch.tensor([0.0, 0.1, 1.5, 1.6, 1.55, 1.65])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    every = torch.arange(3) * 2
    whole = multi_similarity_loss(embeddings, classes, Triplets(every, every + 1, every))
    hard = multi_similarity_loss(embeddings, classes, Triplets(every[1:], every[1:] + 1, every[1:]))
    torch.testing.assert_close(whole, hard)


def test_beta_starts_anew_and_moves_towards_the_boundary():
    loss = METRIC_LOSSES["margin"]
    first, second = loss.parameters(), loss.parameters()
    assert first["beta"] is not second["beta"]
    assert first["beta"].item() == pytest.approx(0.6)
    assert all(not other.parameters() for name, other in METRIC_LOSSES.items() if name != "margin")
    embeddings, triplets = random_batch()
    optimizer = torch.optim.SGD(first.values(), lr=metric_losses.LEARNT_LR)
    before = loss(embeddings, LABELS, triplets, "N", **first)
    before.backward()
    optimizer.step()
    assert first["beta"].item() != pytest.approx(0.6, abs=1e-6)
    assert loss(embeddings, LABELS, triplets, "N", **first) <= before
    assert margin_loss(*triplets.of(embeddings)) == pytest.approx(before.item())


@pytest.mark.parametrize(("name", "metric"), EVERY)
def test_a_margin_changes_every_loss_that_has_one(name, metric):
    embeddings, triplets = random_batch()
    loss = METRIC_LOSSES[name]
    published = loss(embeddings, LABELS, triplets, metric)
    assert loss(embeddings, LABELS, triplets, metric, None) == published
    if loss.has_margin:
        assert loss(embeddings, LABELS, triplets, metric, 1.5) != published
    else:
        with pytest.raises(TypeError, match="margin"):
            loss(embeddings, LABELS, triplets, metric, 1.5)


def test_triplet_forms_take_embeddings_that_are_not_of_the_batch():
    explicit = {name for name, loss in METRIC_LOSSES.items() if loss.of_triplets is not None}
    assert explicit == {"triplet", "tripxa", "contrast", "margin", "snr"}
    for loss in METRIC_LOSSES.values():
        assert (loss.of_triplets is None) != (loss.of_batch is None)


@pytest.mark.parametrize(
    ("name", "metric", "message"),
    [
        ("hinge", "N", "unknown loss hinge: choose from triplet, "),
        ("nca", "E", "the loss nca is defined for the metric N"),
        ("ms", "CN", "the loss ms is defined for the metric C or N"),
    ],
)
def test_an_unknown_loss_or_metric_is_bad_input(name, metric, message):
    with pytest.raises(UserError, match=message):
        metric_loss(name, metric)


def test_known_losses_are_found():
    assert metric_loss("triplet", "N") is METRIC_LOSSES["triplet"]
