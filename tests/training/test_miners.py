"""Miners against loops over anchors: choices, their frequencies, and cases without a choice."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import binomtest, chisquare
from torch import Tensor

from src.training import miners
from src.training.miners import (
    MINER_LETTERS,
    MINERS,
    DistanceWeighted,
    Hardest,
    Random,
    Semihard,
    Softhard,
    Triplets,
)

LABELS = torch.tensor([0, 0, 1, 1, 2, 2, 0, 0, 1, 1, 3, 3, 2, 2])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def embeddings_of(classes: Tensor, dim: int = 5, pull: float = 1.0, seed: int = 0) -> Tensor:
    """Draw random directions of random lengths, closer within a label for a larger ``pull``."""
    generator = seeded(seed)
    centres = torch.randn(int(classes.max()) + 1, dim, generator=generator, dtype=torch.float64)
    noise = torch.randn(len(classes), dim, generator=generator, dtype=torch.float64)
    lengths = 0.2 + torch.rand(len(classes), 1, generator=generator, dtype=torch.float64)
    return lengths * (pull * centres[classes] + noise)


def unit_distances(embeddings: Tensor) -> np.ndarray:
    unit = embeddings.numpy() / np.linalg.norm(embeddings.numpy(), axis=1, keepdims=True)
    return np.array([[np.linalg.norm(a - b) for b in unit] for a in unit])


def expected_sets(name: str, embeddings: Tensor, classes: Tensor) -> list[tuple[set, set]]:
    """Return (positives, negatives) that the definition allows, anchor by anchor."""
    d, y, everything = unit_distances(embeddings), classes.tolist(), range(len(classes))
    sets = []
    for a in range(0, len(y), 2):
        same = {j for j in everything if y[j] == y[a]}
        others = set(everything) - same
        positives, negatives = {a + 1}, others
        if name == "semihard":
            near = {j for j in others if d[a, a + 1] < d[a, j] < d[a, a + 1] + 0.2}
            negatives = near or others
        if name.startswith("softhard"):
            if name == "softhard_other":
                same -= {a}
            farthest, nearest = max(d[a, j] for j in same), min(d[a, j] for j in others)
            negatives = {j for j in others if d[a, j] < farthest} or others
            positives = {j for j in same if d[a, j] > nearest} or same
        if name == "hardest":
            negatives = {min(others, key=lambda j: d[a, j])}
        sets.append((positives, negatives))
    return sets


ALL = {
    "random": Random(),
    "semihard": Semihard(),
    "softhard": Softhard(),
    "softhard_other": Softhard(allow_self=False),
    "distance": DistanceWeighted(),
    "hardest": Hardest(),
}


@pytest.mark.parametrize("pull", [0.0, 1.0, 20.0])
@pytest.mark.parametrize("name", ALL)
def test_every_choice_is_allowed_and_everything_allowed_is_chosen(name, pull):
    embeddings = embeddings_of(LABELS, pull=pull)
    expected = expected_sets(name, embeddings, LABELS)
    generator = seeded(1)
    seen = [(set(), set()) for _ in expected]
    for _ in range(400):
        triplets = ALL[name](embeddings, LABELS, generator)
        assert triplets.anchor.tolist() == list(range(0, len(LABELS), 2))
        for row, (positives, negatives) in enumerate(seen):
            positives.add(int(triplets.positive[row]))
            negatives.add(int(triplets.negative[row]))
    for (positives, negatives), (may_pull, may_push) in zip(seen, expected, strict=True):
        assert positives == may_pull
        # Weights of distances may be too small for 400 draws.
        assert negatives <= may_push if name == "distance" else negatives == may_push


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ALL)
def test_choices_are_allowed_in_large_batches(name, seed):
    classes = torch.randint(9, (64,), generator=seeded(seed)).repeat_interleave(2)
    embeddings = embeddings_of(classes, dim=16, pull=0.7, seed=seed)
    triplets = ALL[name](embeddings, classes, seeded(seed))
    expected = expected_sets(name, embeddings, classes)
    for row, (positives, negatives) in enumerate(expected):
        assert int(triplets.positive[row]) in positives
        assert int(triplets.negative[row]) in negatives


def draws(miner, embeddings: Tensor, classes: Tensor, n: int) -> Triplets:
    """Return ``n`` draws, (n, t) each."""
    generator = seeded(7)
    drawn = [miner(embeddings, classes, generator) for _ in range(n)]
    return Triplets(*(torch.stack(column) for column in zip(*drawn, strict=True)))


def assert_frequencies(chosen: Tensor, expected: dict[int, float]) -> None:
    """Test the positions ``chosen`` (n,) against their probabilities by chi-square."""
    counts = Counter(chosen.tolist())
    assert set(counts) <= set(expected)
    weights = np.array(list(expected.values()))
    observed = [counts[position] for position in expected]
    if len(observed) > 1:
        assert chisquare(observed, len(chosen) * weights / weights.sum()).pvalue > 1e-3


@pytest.mark.parametrize("name", ["random", "semihard", "softhard", "softhard_other"])
def test_choices_are_uniform(name):
    embeddings = embeddings_of(LABELS, pull=1.0)
    drawn = draws(ALL[name], embeddings, LABELS, 2000)
    for row, (positives, negatives) in enumerate(expected_sets(name, embeddings, LABELS)):
        assert_frequencies(drawn.positive[:, row], dict.fromkeys(positives, 1.0))
        assert_frequencies(drawn.negative[:, row], dict.fromkeys(negatives, 1.0))


@pytest.mark.parametrize("dim", [4, 5, 8])
def test_distance_weighted_negatives_follow_the_inverse_density(dim):
    embeddings = embeddings_of(LABELS, dim, pull=0.3)
    distances = unit_distances(embeddings)
    drawn = draws(DistanceWeighted(), embeddings, LABELS, 2000)
    for row, anchor in enumerate(range(0, len(LABELS), 2)):
        weights = {
            j: math.exp((2 - dim) * math.log(d) - (dim - 3) / 2 * math.log(1 - d**2 / 4))
            for j, d in enumerate(distances[anchor])
            if LABELS[j] != LABELS[anchor]
        }
        total = sum(weights.values())
        rare = {j for j in weights if weights[j] / total < 0.003}
        common = {j: weight for j, weight in weights.items() if j not in rare}
        chosen = drawn.negative[:, row]
        kept = torch.tensor([int(j) not in rare for j in chosen])
        assert (~kept).float().mean() < 0.003 * len(rare) + 0.01
        assert_frequencies(chosen[kept], common)


def test_distance_weighting_survives_512_dimensions_and_equal_embeddings():
    """At 512 dimensions exp would overflow, and a negative at distance 0 has an infinite weight."""
    classes = torch.arange(20).repeat_interleave(2)
    embeddings = torch.randn(40, 512, generator=seeded())
    embeddings[31] = embeddings[0]
    embeddings[30] = -embeddings[2]
    for seed in range(20):
        negatives = DistanceWeighted()(embeddings, classes, seeded(seed)).negative
        assert negatives[:2].tolist() == [31, 30]
        assert (classes[negatives] != classes[::2]).all()


def test_with_widely_separated_classes_softhard_may_take_the_anchor_itself():
    classes = torch.arange(8).repeat_interleave(2)
    embeddings = torch.eye(8)[classes] + 0.01 * torch.randn(16, 8, generator=seeded())
    drawn = draws(Softhard(), embeddings, classes, 500)
    own = (drawn.positive == drawn.anchor).float().mean()
    assert own == pytest.approx(0.5, abs=0.03)  # of the two images of its label
    drawn = draws(Softhard(allow_self=False), embeddings, classes, 50)
    assert (drawn.positive == drawn.anchor + 1).all()


@pytest.mark.parametrize("name", ALL)
def test_without_another_label_the_negative_is_any_image(name):
    classes = torch.zeros(8, dtype=torch.int64)
    drawn = draws(ALL[name], embeddings_of(classes), classes, 300)
    for chosen in drawn.negative.T:
        assert_frequencies(chosen, dict.fromkeys(range(8), 1.0))


def test_the_smallest_batch_has_one_triplet():
    classes = torch.tensor([4, 4])
    for miner in ALL.values():
        triplets = miner(embeddings_of(classes), classes, seeded())
        assert [len(positions) for positions in triplets] == [1, 1, 1]


@pytest.mark.parametrize("name", ["random", "semihard", "softhard", "distance", "distance_switch"])
def test_a_seed_gives_the_same_triplets_and_another_seed_others(name):
    classes = torch.arange(10).repeat_interleave(4)
    embeddings = embeddings_of(classes, dim=16, pull=0.2)

    def mined(seed: int) -> list:
        generator = seeded(seed)
        return [MINERS[name](embeddings, classes, generator).negative.tolist() for _ in range(3)]

    assert mined(0) == mined(0)
    assert mined(0) != mined(1)
    assert all(first != second for first, second in pairwise(mined(0)))
    torch.manual_seed(0)
    before = torch.get_rng_state()
    mined(0)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(("share", "pick"), [(0.0, min), (1 - 2**-53, max)])
@pytest.mark.parametrize("name", ["random", "softhard", "distance"])
def test_the_least_and_the_largest_random_number_choose_what_is_allowed(
    name, share, pick, monkeypatch
):
    embeddings = embeddings_of(LABELS)
    monkeypatch.setattr(
        miners, "_uniform", lambda n, *_: torch.full((n,), share, dtype=torch.float64)
    )
    triplets = ALL[name](embeddings, LABELS, seeded())
    for row, (positives, negatives) in enumerate(expected_sets(name, embeddings, LABELS)):
        assert int(triplets.positive[row]) == pick(positives)
        assert int(triplets.negative[row]) == pick(negatives)


def test_lengths_of_embeddings_do_not_matter():
    embeddings = embeddings_of(LABELS)
    scaled = embeddings * (1 + torch.arange(len(LABELS))[:, None])
    for miner in ALL.values():
        for one, other in zip(
            miner(embeddings, LABELS, seeded(3)), miner(scaled, LABELS, seeded(3)), strict=True
        ):
            assert torch.equal(one, other)


def test_mining_builds_no_graph():
    embeddings = embeddings_of(LABELS).requires_grad_()
    for miner in ALL.values():
        triplets = miner(embeddings, LABELS, seeded())
        assert all(positions.dtype == torch.int64 for positions in triplets)
        assert not any(positions.requires_grad for positions in triplets)


def test_switching_makes_partners_the_negatives_of_whole_batches():
    embeddings = embeddings_of(LABELS)
    drawn = draws(MINERS["distance_switch"], embeddings, LABELS, 1000)
    switched = (drawn.positive == drawn.anchor).all(dim=1)
    assert torch.equal(drawn.negative[switched], drawn.anchor[switched] + 1)
    assert (drawn.positive[~switched] == drawn.anchor[~switched] + 1).all()
    assert (LABELS[drawn.negative[~switched]] != LABELS[drawn.anchor[~switched]]).all()
    assert binomtest(int(switched.sum()), 1000, 0.15).pvalue > 1e-3


def test_triplets_pick_their_rows():
    embeddings = torch.arange(8.0).reshape(4, 2)
    triplets = Triplets(torch.tensor([0, 2]), torch.tensor([1, 3]), torch.tensor([3, 0]))
    anchor, positive, negative = triplets.of(embeddings)
    assert anchor.tolist() == [[0, 1], [4, 5]]
    assert positive.tolist() == [[2, 3], [6, 7]]
    assert negative.tolist() == [[6, 7], [0, 1]]


def test_an_odd_batch_is_refused():
    with pytest.raises(ValueError, match="even length, not 3"):
        Random()(torch.rand(3, 2), torch.zeros(3, dtype=torch.int64), seeded())


def test_letters_name_all_miners():
    assert set(MINER_LETTERS.values()) == set(MINERS)
    assert repr(MINERS["semihard"]) == "Semihard(margin=0.2)"
