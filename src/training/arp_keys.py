"""Keys of ``--arp KEY=VALUE``, which change a recipe of attention rectification and preservation."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, get_args, get_type_hints

from src.artifacts.errors import UserError
from src.extractors.attention import Fill, temperature
from src.training.adversaries import Adversary, Gate
from src.training.attention import Attention, Cells, Preserve, Rectify
from src.training.losses import MixedCrossEntropy
from src.training.recipes import CLASSIFIER_ADVERSARIES, Recipe

_NORMS = ("l2", "minmax", "sum")
_PAPER_CELLS = Cells("hard_mean", norm="softmax")


def parse_keys(pairs: Sequence[str]) -> dict[str, Any]:
    """Parse ``["mask_q=.25", ...]`` to values by key; ``UserError`` for a wrong key or value."""
    values = {}
    for pair in pairs:
        key, equals, text = pair.partition("=")
        if not equals or key not in KEYS:
            raise UserError(f"--arp {pair}: write KEY=VALUE, with a key of {', '.join(KEYS)}")
        if key in values:
            raise UserError(f"--arp {key} is given twice")
        try:
            values[key] = KEYS[key](text)
        except ValueError as error:
            raise UserError(f"--arp {key}={text}: {error}") from error
    return values


def with_keys(recipe: Recipe, keys: Mapping[str, Any]) -> Recipe:
    """Return ``recipe``, which must have an attention, changed by ``keys`` (see ``parse_keys``).

    Raises ``UserError`` for keys of a term or of a gate that the recipe does not have.
    """
    if recipe.attention is None:
        raise UserError("--arp belongs to the recipes preserve, rectify, arp and arp_strong")
    if keys.get("preset") == "paper":
        recipe = as_published(recipe)
    recipe = _with_terms(recipe, keys)
    attention = replace(recipe.attention, **_given(keys, "layer", "map", "label"))
    recipe = replace(recipe, attention=attention)
    if "warmup_frac" in keys:
        recipe = replace(recipe, warm_up=keys["warmup_frac"])
    return _with_gate(recipe, keys)


def as_published(recipe: Recipe) -> Recipe:
    """Return ``recipe`` with weights 8 : 4 : 1 and the maps, masks and adversary (step-LL) as published.

    The preservation term is a sum over the batch, as in the published code, and outweighs the others at
    50 images.
    """
    preserve = Preserve(norm="softmax", enlarged=True, reduction="sum")
    rectify = Rectify(
        replace(_PAPER_CELLS, norm="l2"),
        fill="zero",
        batch_norm="shared",
        over_classes="mean",
        enlarged=True,
    )
    published = {Preserve: (1.0, preserve), Rectify: (4.0, rectify)}
    gate = recipe.adversary.gate and Gate(0.2, 4, _PAPER_CELLS)
    return replace(
        recipe,
        loss=MixedCrossEntropy(8.0),
        adversary=replace(CLASSIFIER_ADVERSARIES["stepll"], gate=gate),
        terms=tuple(published[type(term)] for _, term in recipe.terms),
        attention=Attention(map="gradcam", scale="batch"),
        warm_up=0.0,
        clip_norm=None,
    )


def _with_terms(recipe: Recipe, keys: Mapping[str, Any]) -> Recipe:
    terms = tuple(_changed(weight, term, keys) for weight, term in recipe.terms)
    present = {type(term) for _, term in terms}
    for kind, (weight_key, names) in _KEYS_OF_TERMS.items():
        own = (weight_key, *names, *(_KEYS_OF_CELLS if kind is Rectify else ()))
        if kind not in present and (given := [key for key in own if key in keys]):
            raise UserError(f"--arp {given[0]}: the recipe has no such term")
    for _, term in terms:
        if isinstance(term, Preserve) and term.distance == "js" and not _sums_to_one(term.norm):
            raise UserError("--arp distance=js compares distributions: norm=sum or norm=softmax")
    return replace(recipe, terms=terms)


def _changed(weight: float, term: Any, keys: Mapping[str, Any]) -> tuple[float, Any]:
    weight_key, names = _KEYS_OF_TERMS[type(term)]
    changes = {field: keys[key] for key, field in names.items() if key in keys}
    if isinstance(term, Rectify):
        given = {field: keys[key] for key, field in _KEYS_OF_CELLS.items() if key in keys}
        changes["cells"] = replace(term.cells, **given)
    return keys.get(weight_key, weight), replace(term, **changes)


def _with_gate(recipe: Recipe, keys: Mapping[str, Any]) -> Recipe:
    names = {"select_iou": "overlap", "select_max_steps": "steps"}
    changes = {field: keys[key] for key, field in names.items() if key in keys}
    if not changes:
        return recipe
    adversary = recipe.adversary
    if not isinstance(adversary, Adversary) or adversary.gate is None:
        raise UserError("--arp select_iou and select_max_steps belong to the recipe arp_strong")
    gate = replace(adversary.gate, **changes)
    return replace(recipe, adversary=replace(adversary, gate=gate))


def _sums_to_one(norm: str) -> bool:
    return norm == "sum" or norm.startswith("softmax")


def _given(keys: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: keys[name] for name in names if name in keys}


def _choice(*names: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in names:
            raise ValueError(f"choose from {', '.join(names)}")
        return text

    return read


def _field(kind: type, name: str) -> Callable[[str], str]:
    """Return a parser of the values that the field ``name`` of ``kind`` may have."""
    return _choice(*get_args(get_type_hints(kind)[name]))


def _number(low: float, high: float, text: str) -> float:
    value = float(text)
    if not low <= value <= high:
        raise ValueError(f"must be from {low:g} to {high:g}")
    return value


def _between(low: float, high: float) -> Callable[[str], float]:
    return lambda text: _number(low, high, text)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError("must be at least 1")
    return value


def _norm(text: str) -> str:
    if text not in _NORMS:
        temperature(text)
    return text


_KEYS_OF_TERMS: dict[type, tuple[str, dict[str, str]]] = {
    Preserve: ("lambda_pres", {"norm": "norm", "distance": "distance", "teacher": "teacher"}),
    Rectify: (
        "lambda_rect",
        {
            "fill": "fill",
            "rect_branches": "branches",
            "rect_every": "every",
            "rect_cap": "cap",
            "bn_erased": "batch_norm",
        },
    ),
}
"""Key of the weight of each term, and the fields of its other keys."""

_KEYS_OF_CELLS = {"mask": "kind", "mask_q": "share"}
"""Keys of the erased cells and their fields."""

KEYS: dict[str, Callable[[str], Any]] = {
    "preset": _choice("modern", "paper"),
    "lambda_rect": _between(0, 1e6),
    "lambda_pres": _between(0, 1e6),
    "layer": str,
    "map": _field(Attention, "map"),
    "label": _field(Attention, "label"),
    "norm": _norm,
    "distance": _field(Preserve, "distance"),
    "teacher": _field(Preserve, "teacher"),
    "mask": _field(Cells, "kind"),
    "mask_q": _between(1e-6, 1),
    "fill": _choice(*get_args(Fill)),
    "rect_branches": _field(Rectify, "branches"),
    "rect_every": _count,
    "rect_cap": _between(0, 2),
    "select_iou": _between(0, 1),
    "select_max_steps": _count,
    "bn_erased": _field(Rectify, "batch_norm"),
    "warmup_frac": _between(0, 1),
}
"""Parser of the value of each key."""
