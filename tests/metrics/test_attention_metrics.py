import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import stats
from scipy.spatial.distance import cosine, jensenshannon

from src.extractors import attention
from src.metrics.attention import (
    above_half_max,
    above_mean,
    blind,
    cells_of_boxes,
    components,
    equal_area,
    incompleteness,
    overlap,
    scatter,
    shift,
    ssim,
    top_cells,
)

AREAS = ("iou_top", "iou_mean", "iou_half_max")
FURTHER = ("iou_top10", "iou_top20", "iou_top30")
SIMILARITIES = (*AREAS, *FURTHER, "pearson", "spearman", "cosine", "ssim")
DISTANCES = ("js", "centroid_distance", "top_cell_moved")


@pytest.fixture(autouse=True)
def no_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def some_maps(n: int = 20, h: int = 7, w: int = 7, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0.3, 1, (n, h, w)).astype(np.float32)


def one_cell(row: int, column: int, side: int = 4, value: float = 2.0) -> np.ndarray:
    """Return a map (1, side, side) that is zero except for one cell."""
    maps = np.zeros((1, side, side), np.float32)
    maps[0, row, column] = value
    return maps


shapes = st.tuples(st.integers(1, 4), st.integers(1, 5), st.integers(2, 5))
maps_of_few_values = hnp.arrays(np.float32, shapes, elements=st.integers(-2, 3))
any_maps = hnp.arrays(np.float32, shapes, elements=st.floats(-1e6, 1e6, width=32))
pairs = shapes.flatmap(
    lambda shape: st.tuples(
        *[hnp.arrays(np.float32, shape, elements=st.floats(-1e6, 1e6, width=32))] * 2
    )
)
pairs_of_few_values = shapes.flatmap(
    lambda shape: st.tuples(*[hnp.arrays(np.float32, shape, elements=st.integers(-2, 2))] * 2)
)
masks = shapes.flatmap(lambda shape: st.tuples(*[hnp.arrays(bool, shape)] * 2))


# Masks


def test_of_equal_cells_the_lower_index_is_on_top():
    maps = np.array([[[1, 3], [3, 3]], [[0, 0], [0, 0]], [[-3, -1], [-2, -1]]], np.float32)
    np.testing.assert_array_equal(
        top_cells(maps, 0.5).reshape(3, 4),
        [[False, True, True, False], [True, True, False, False], [False, True, False, True]],
    )


@settings(deadline=None)
@given(maps_of_few_values, st.integers(1, 1000))
def test_top_cells_are_exactly_so_many_and_the_highest(maps, thousandths):
    n_cells = math.ceil(Fraction(thousandths, 1000) * math.prod(maps.shape[1:]))
    for image, cells in zip(maps, top_cells(maps, thousandths / 1000), strict=True):
        order = sorted(range(image.size), key=lambda cell, image=image: (-image.flat[cell], cell))
        assert sorted(np.flatnonzero(cells)) == sorted(order[:n_cells])


@pytest.mark.parametrize(
    ("share", "shape", "n_cells"),
    [(0.125, (8, 8), 8), (0.125, (7, 7), 7), (0.125, (13, 13), 22), (0.07, (10, 10), 7)],
)
def test_shares_of_common_maps(share, shape, n_cells):
    assert (top_cells(some_maps(3, *shape), share).sum(axis=(1, 2)) == n_cells).all()


def test_every_map_has_its_own_area():
    cells = equal_area(some_maps(3), np.array([0, 5, 49]))
    np.testing.assert_array_equal(cells.sum(axis=(1, 2)), [0, 5, 49])
    np.testing.assert_array_equal(cells[1], equal_area(some_maps(3), 5)[1])


def test_thresholds_by_hand():
    maps = np.array([[[4, 1], [0, -1]], [[2, 2], [2, 2]], [[-1, -4], [-1, -2]]], np.float32)
    mean = [[[True, False], [False, False]], np.zeros((2, 2)), [[True, False], [True, False]]]
    np.testing.assert_array_equal(above_mean(maps), np.array(mean, bool))
    half = above_half_max(maps)
    np.testing.assert_array_equal(half.sum(axis=(1, 2)), [1, 4, 0])
    assert half[0, 0, 0]


@settings(deadline=None)
@given(st.floats(-1e3, 1e3), shapes)
def test_nothing_of_a_constant_map_is_above_its_mean(value, shape):
    assert not above_mean(np.full(shape, value)).any()


def test_overlap_by_hand():
    a = np.array([[[1, 1], [0, 0]], [[1, 0], [0, 0]], [[0, 0], [0, 0]]], bool)
    b = np.array([[[1, 0], [1, 0]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]], bool)
    np.testing.assert_allclose(overlap(a, b), [1 / 3, 0, 1])


@settings(deadline=None)
@given(masks)
def test_overlap_is_a_symmetric_share(pair):
    a, b = pair
    shared = overlap(a, b)
    assert ((shared >= 0) & (shared <= 1)).all()
    np.testing.assert_array_equal(shared, overlap(b, a))
    np.testing.assert_array_equal(overlap(a, a), 1)
    np.testing.assert_array_equal(shared == 1, (a == b).all(axis=(1, 2)))


@settings(deadline=None)
@given(maps_of_few_values)
def test_masks_agree_with_those_that_training_uses(maps):
    tensor = torch.from_numpy(maps)
    for share in (0.125, 0.3, 1.0):
        np.testing.assert_array_equal(
            attention.top_cells(tensor, share).numpy(), top_cells(maps, share)
        )
    halves = above_half_max(maps)
    top = top_cells(maps, 0.3)
    theirs = attention.overlap(torch.from_numpy(halves), torch.from_numpy(top))
    np.testing.assert_allclose(theirs.numpy(), overlap(halves, top), rtol=1e-6)


# Shift


def test_attention_that_jumps_from_corner_to_corner():
    moved = shift(one_cell(0, 0), one_cell(3, 3))
    for name in (*AREAS[1:], "cosine"):
        assert moved[name] == 0
    assert moved["js"] == moved["centroid_distance"] == moved["top_cell_moved"] == 1
    # Two indicators of different cells among n = 16: -1 / (n - 1).
    assert moved["pearson"] == pytest.approx(-1 / 15)
    assert moved["spearman"] == pytest.approx(-1 / 15)
    # The top 2 of 16 are the only bright cell and the dark cell with the lowest index.
    assert moved["iou_top"] == pytest.approx(1 / 3)


def test_attention_of_which_a_part_moves():
    clean, attacked = one_cell(0, 0) + one_cell(0, 1), one_cell(0, 1) + one_cell(3, 1)
    moved = shift(clean, attacked)
    for name in AREAS:
        assert moved[name] == pytest.approx(1 / 3)
    assert moved["cosine"] == pytest.approx(0.5)
    # p = (1/2, 1/2, 0), q = (0, 1/2, 1/2): half of the mass is exclusive.
    assert moved["js"] == pytest.approx(0.5)
    # From (0, 0.5) to (1.5, 1), over the diagonal 3 * sqrt(2).
    assert moved["centroid_distance"] == pytest.approx(np.hypot(1.5, 0.5) / np.sqrt(18))
    assert moved["top_cell_moved"]


def brute_shift(a: np.ndarray, b: np.ndarray, share: float) -> dict[str, float]:
    """Compute the shift of one pair of maps with positive cells by loops and libraries."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    h, w = a.shape
    cells = [(row, column) for row in range(h) for column in range(w)]

    def iou(first: set, second: set) -> float:
        return len(first & second) / len(first | second)

    def top(image: np.ndarray, share: float = share) -> set:
        order = sorted(cells, key=lambda cell: -image[cell])
        return set(order[: math.ceil(round(share * h * w, 9))])

    def above(image: np.ndarray, threshold: float) -> set:
        return {cell for cell in cells if image[cell] > threshold}

    positive, positive_after = a.clip(0), b.clip(0)
    p, q = positive / positive.sum(), positive_after / positive_after.sum()
    centre = sum(p[cell] * np.array(cell) for cell in cells)
    centre_after = sum(q[cell] * np.array(cell) for cell in cells)
    return {
        "iou_top": iou(top(a), top(b)),
        **{f"iou_top{n}": iou(top(a, n / 100), top(b, n / 100)) for n in (10, 20, 30)},
        "iou_mean": iou(above(positive, p.mean() * positive.sum()), above(b, b.clip(0).mean())),
        "iou_half_max": iou(above(a, a.max() / 2), above(b, b.max() / 2)),
        "pearson": stats.pearsonr(a.ravel(), b.ravel())[0],
        "spearman": stats.spearmanr(a.ravel(), b.ravel())[0],
        "cosine": 1 - cosine(a.ravel(), b.ravel()),
        "js": jensenshannon(p.ravel(), q.ravel(), base=2) ** 2,
        "ssim": brute_ssim((a - a.min()) / np.ptp(a), (b - b.min()) / np.ptp(b)),
        "centroid_distance": math.dist(centre, centre_after) / math.hypot(h - 1, w - 1),
        "top_cell_moved": a.argmax() != b.argmax(),
    }


def brute_ssim(a: np.ndarray, b: np.ndarray) -> float:
    """Compute SSIM over every 3 x 3 window by the formula of Wang et al."""
    values = []
    for row in range(max(a.shape[0] - 2, 1)):
        for column in range(max(a.shape[1] - 2, 1)):
            x = a[row : row + 3, column : column + 3].ravel()
            y = b[row : row + 3, column : column + 3].ravel()
            (var_x, covariance), (_, var_y) = np.cov(x, y, ddof=0)
            values.append(
                (2 * x.mean() * y.mean() + 1e-4)
                * (2 * covariance + 9e-4)
                / ((x.mean() ** 2 + y.mean() ** 2 + 1e-4) * (var_x + var_y + 9e-4))
            )
    return float(np.mean(values))


@pytest.mark.parametrize("shape", [(7, 7), (8, 8), (13, 13), (2, 5), (1, 6)])
@pytest.mark.parametrize("share", [0.125, 0.3])
def test_shift_matches_loops_and_libraries(shape, share):
    clean = some_maps(12, *shape)
    attacked = clean + 0.7 * some_maps(12, *shape, seed=1)
    attacked[0] = np.round(attacked[0])  # ties, for the ranks
    attacked[0, 0, 0] = 9
    known = ~(blind(clean) | blind(attacked))
    clean, attacked = clean[known], attacked[known]
    moved = shift(clean, attacked, share)
    assert set(moved) == {*SIMILARITIES, *DISTANCES}
    for i, pair in enumerate(zip(clean, attacked, strict=True)):
        for name, value in brute_shift(*pair, share).items():
            assert moved[name][i] == pytest.approx(value, abs=1e-9), name


@settings(deadline=None)
@given(any_maps)
def test_a_map_does_not_move_from_itself(maps):
    moved = shift(maps, maps)
    for name in SIMILARITIES:
        np.testing.assert_allclose(moved[name][~np.isnan(moved[name])], 1, rtol=1e-12)
    for name in DISTANCES:
        assert (moved[name] == 0).all()
    constant = np.ptp(maps, axis=(1, 2)) == 0
    np.testing.assert_array_equal(np.isnan(moved["pearson"]), constant)
    np.testing.assert_array_equal(np.isnan(moved["spearman"]), constant)
    np.testing.assert_array_equal(np.isnan(moved["cosine"]), (maps == 0).all(axis=(1, 2)))
    for name in AREAS:
        np.testing.assert_array_equal(np.isnan(moved[name]), blind(maps))


@settings(deadline=None)
@given(pairs, st.floats(0.01, 1))
def test_shift_is_symmetric_and_in_its_range(pair, share):
    clean, attacked = pair
    moved, back = shift(clean, attacked, share), shift(attacked, clean, share)
    for name, values in moved.items():
        np.testing.assert_allclose(values, back[name], rtol=1e-9, atol=1e-12, err_msg=name)
        low = -1 if name in ("pearson", "spearman", "cosine", "ssim") else 0
        known = values[~np.isnan(values)]
        assert ((known >= low) & (known <= 1 + 1e-12)).all(), name


@settings(deadline=None)
@given(pairs_of_few_values)
def test_divergence_is_zero_just_for_equal_distributions(pair):
    p, q = (np.maximum(maps, 0).astype(np.float64) for maps in pair)
    # Blind maps become uniform.
    p, q = (maps + (maps.max(axis=(1, 2), keepdims=True) == 0) for maps in (p, q))
    proportional = p * q.sum(axis=(1, 2), keepdims=True) == q * p.sum(axis=(1, 2), keepdims=True)
    equal = proportional.all(axis=(1, 2))
    divergence = shift(*pair)["js"]
    assert (divergence[equal] < 1e-12).all()
    assert (divergence[~equal] > 1e-6).all()
    disjoint = (p * q).sum(axis=(1, 2)) == 0
    np.testing.assert_array_equal(divergence > 1 - 1e-12, disjoint)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(-8, 8), st.sampled_from([(), (1,), (2,), (1, 2)]))
def test_shift_heeds_neither_the_scale_of_maps_nor_their_orientation(seed, power, mirrored):
    clean, attacked = some_maps(5, 4, 6, seed=seed), some_maps(5, 4, 6, seed=seed + 1)
    assume(not (blind(clean) | blind(attacked)).any())
    mirror = [np.flip(2.0**power * clean, mirrored), np.flip(attacked, mirrored)]
    moved, mirrored_move = shift(clean, attacked), shift(*mirror)
    for name, values in moved.items():
        np.testing.assert_allclose(values, mirrored_move[name], rtol=1e-9, err_msg=name)


def test_blind_maps_have_no_areas_and_look_everywhere():
    dark = np.full((1, 4, 4), -1, np.float32)
    dark[0, 0, 0] = -2
    clean, attacked = np.concatenate([dark, dark]), np.concatenate([dark, one_cell(0, 0)])
    np.testing.assert_array_equal(blind(attacked), [True, False])
    moved = shift(clean, attacked)
    for name in AREAS:
        assert np.isnan(moved[name]).all()
    # One cell against the uniform map of 16: the centre is half a diagonal from the corner.
    np.testing.assert_allclose(moved["centroid_distance"], [0, 0.5])
    p, q = np.eye(1, 16)[0], np.full(16, 1 / 16)
    np.testing.assert_allclose(moved["js"], [0, jensenshannon(p, q, base=2) ** 2], atol=1e-12)
    np.testing.assert_allclose(moved["pearson"], [1, -1])
    scattered = scatter(dark)
    assert scattered["entropy"] == pytest.approx(1)
    assert scattered["gini"] == pytest.approx(0)
    assert np.isnan(scattered["components"])


def test_ssim_compares_what_is_displayed():
    a = some_maps(4)
    np.testing.assert_allclose(shift(a, 3 * a + 5)["ssim"], 1)
    assert (shift(a, -a)["ssim"] < 0).all()
    flat = np.zeros((1, 7, 7))
    # Without structure only luminance is left: (2 * 0 + C1) / (0 + 0.25 + C1).
    assert ssim(flat, flat + 0.5) == pytest.approx(1e-4 / (0.25 + 1e-4))


# Scatter


def test_scatter_by_hand():
    corners = one_cell(0, 0) + one_cell(3, 3)
    maps = np.concatenate([one_cell(1, 2), np.ones((1, 4, 4)), corners])
    found = scatter(maps, share=1 / 8)
    np.testing.assert_allclose(found["entropy"], [0, 1, math.log(2) / math.log(16)], atol=1e-12)
    # The variance of 4 equally likely rows is 1.25, as for columns; the diagonal is sqrt(18).
    np.testing.assert_allclose(found["spread"], [0, math.sqrt(2.5 / 18), 0.5], atol=1e-12)
    np.testing.assert_allclose(found["gini"], [15 / 16, 0, 14 / 16], atol=1e-12)
    # The second top cell of the first map is the corner, that of the second touches the first.
    np.testing.assert_array_equal(found["components"], [2, 1, 2])


@pytest.mark.parametrize("shape", [(7, 7), (8, 8), (13, 13), (3, 4)])
def test_scatter_matches_loops(shape):
    maps = some_maps(8, *shape)
    found = scatter(maps)
    for i, image in enumerate(maps.astype(np.float64)):
        p = image.clip(0) / image.clip(0).sum()
        assert found["entropy"][i] == pytest.approx(stats.entropy(p.ravel(), base=p.size))
        differences = sum(abs(x - y) for x in p.flat for y in p.flat)
        assert found["gini"][i] == pytest.approx(differences / (2 * p.size))
        # The mean squared distance from the centre is half of that between two draws.
        squares = sum(
            p[u] * p[v] * math.dist(u, v) ** 2 for u in np.ndindex(shape) for v in np.ndindex(shape)
        )
        diagonal = math.hypot(shape[0] - 1, shape[1] - 1)
        assert found["spread"][i] == pytest.approx(math.sqrt(squares / 2) / diagonal)


@settings(deadline=None)
@given(any_maps)
def test_scatter_is_in_its_range(maps):
    found = scatter(maps)
    n_cells = math.prod(maps.shape[1:])
    assert ((found["entropy"] >= 0) & (found["entropy"] <= 1 + 1e-12)).all()
    assert ((found["spread"] >= 0) & (found["spread"] <= 0.5 + 1e-9)).all()
    assert ((found["gini"] >= 0) & (found["gini"] <= 1 - 1 / n_cells + 1e-12)).all()
    known = ~blind(maps)
    assert (found["components"][known] >= 1).all()
    assert np.isnan(found["components"][~known]).all()


def flood(mask: np.ndarray) -> int:
    """Count the components of one mask by filling them one after the other."""
    left, count = set(map(tuple, np.argwhere(mask))), 0
    while left:
        count += 1
        front = [left.pop()]
        while front:
            row, column = front.pop()
            for cell in (
                (row + 1, column),
                (row - 1, column),
                (row, column + 1),
                (row, column - 1),
            ):
                if cell in left:
                    left.remove(cell)
                    front.append(cell)
    return count


@settings(deadline=None)
@given(masks)
def test_components_match_a_flood(pair):
    stack = np.concatenate(pair)
    np.testing.assert_array_equal(components(stack), [flood(mask) for mask in stack])


def test_components_touch_by_sides_and_not_across_images():
    full, diagonal, none = np.ones((3, 3), bool), np.eye(3, dtype=bool), np.zeros((3, 3), bool)
    np.testing.assert_array_equal(components(np.stack([full, full, diagonal, none])), [1, 1, 3, 0])


# Incompleteness


def test_incompleteness_by_hand():
    maps = np.zeros((3, 4, 4), np.float32)
    maps[0, :2, :2] = 1  # all of the object
    maps[1, 0, :2] = 1  # half of it
    maps[2, 3, 2:] = 1  # beside it
    objects = np.zeros((3, 4, 4), bool)
    objects[:, :2, :2] = True
    found = incompleteness(
        np.array([0.9, 0.9, 0.9]), np.array([0.1, 0.5, 0.9]), maps=maps, objects=objects
    )
    np.testing.assert_allclose(found["inc3"], [0.2, 0.6, 1.0])
    np.testing.assert_allclose(found["inc1"], [0, 0.5, 1])
    # Four cells: of equal ones the first, (0, 0) to (0, 3) for the second map; and for the third map
    # (3, 2), (3, 3), (0, 0) and (0, 1).
    np.testing.assert_allclose(found["inc2"], [0, 1 - 2 / 6, 1 - 2 / 6])
    assert set(incompleteness(np.ones(3), np.zeros(3), maps, None)) == {"inc3"}


def test_incompleteness_is_unknown_without_attention_or_object():
    maps = np.concatenate([np.zeros((1, 4, 4)), one_cell(0, 0)])
    objects = np.zeros((2, 4, 4), bool)
    objects[0, 0, 0] = True
    found = incompleteness(np.ones(2), np.ones(2), maps, objects)
    assert np.isnan(found["inc1"]).all() and np.isnan(found["inc2"]).all()
    np.testing.assert_array_equal(found["inc3"], 1)


@settings(deadline=None)
@given(st.integers(0, 1000))
def test_the_more_of_the_object_is_lit_the_more_complete(seed):
    rng = np.random.default_rng(seed)
    objects = np.zeros((6, 5, 5), bool)
    objects[:, 1:4, 1:4] = True
    order = rng.permutation(9)
    maps = np.zeros((6, 5, 5), np.float32)
    maps[:, 0, 0] = 1
    for i in range(6):
        maps[i, 1 + order[: i + 1] // 3, 1 + order[: i + 1] % 3] = 1
    found = incompleteness(np.ones(6), np.linspace(1, 0, 6), maps, objects)
    for values in found.values():
        assert (np.diff(values) <= 0).all()


def test_cells_of_boxes_by_hand():
    boxes = np.array([[0, 0, 64, 64], [8, 16, 40, 24], [20, 20, 22, 22], [63, 63, 64, 64]])
    found = cells_of_boxes(boxes, (64, 64), (4, 4))  # cells of 16 pixels, centres at 8, 24, 40, 56
    assert found[0].all()
    # Columns with centres in [8, 40) and the row of the box's own centre, 20.
    np.testing.assert_array_equal(np.argwhere(found[1]), [[1, 0], [1, 1]])
    np.testing.assert_array_equal(np.argwhere(found[2]), [[1, 1]])
    np.testing.assert_array_equal(np.argwhere(found[3]), [[3, 3]])


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 98), st.integers(1, 60), st.integers(0, 48), st.integers(1, 30)),
        min_size=1,
        max_size=4,
    ),
    st.tuples(st.integers(2, 13), st.integers(2, 13)),
)
def test_cells_of_boxes_match_a_look_at_every_centre(corners, shape):
    boxes = np.array([[x, y, min(x + w, 100), min(y + h, 50)] for x, w, y, h in corners])
    for box, cells in zip(boxes, cells_of_boxes(boxes, (50, 100), shape), strict=True):
        x0, y0, x1, y1 = map(int, box)
        ys = [Fraction(2 * row + 1, 2) * Fraction(50, shape[0]) for row in range(shape[0])]
        xs = [Fraction(2 * column + 1, 2) * Fraction(100, shape[1]) for column in range(shape[1])]
        held = np.array([[y0 <= y < y1 and x0 <= x < x1 for x in xs] for y in ys])
        if held.any():
            # Centres on the very edge may fall on either side in floating point.
            edge = np.array([[y in (y0, y1) or x in (x0, x1) for x in xs] for y in ys])
            np.testing.assert_array_equal(cells[~edge], held[~edge])
        assert cells.any()


# Bad input


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: shift(some_maps(3), some_maps(2)), "shapes differ"),
        (lambda: overlap(np.ones((1, 2, 2), bool), np.ones((1, 2, 3), bool)), "shapes differ"),
        (lambda: scatter(some_maps(3)[0]), "two cells or more"),
        (lambda: scatter(np.ones((3, 1, 1))), "two cells or more"),
        (lambda: top_cells(some_maps(1), 0), "share of cells"),
        (lambda: top_cells(some_maps(1), 12.5), "share of cells"),
        (lambda: cells_of_boxes(np.array([[0, 0, 9, 9]]), (8, 8), (4, 4)), "box 0 is empty or"),
        (lambda: cells_of_boxes(np.array([[3, 3, 3, 5]]), (8, 8), (4, 4)), "box 0 is empty or"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_maps_that_are_not_finite_are_named(value):
    maps = some_maps(3)
    maps[1, 2, 3] = value
    with pytest.raises(ValueError, match="image 1 is not finite"):
        shift(some_maps(3), maps)


def test_no_images_have_no_values():
    none = np.zeros((0, 7, 7), np.float32)
    for values in (shift(none, none) | scatter(none)).values():
        assert values.shape == (0,)
