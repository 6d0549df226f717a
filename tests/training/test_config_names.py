"""Names of published experiments and the options that they stand for."""

from itertools import product

import pytest

from src.artifacts.errors import UserError
from src.training.command import RecipeOptions
from src.training.config_names import (
    DEFENCES,
    EMBEDDERS,
    HardnessName,
    parse_config,
    parse_hardness_name,
)
from src.training.hardness import LossGuided, MinerHardness
from src.training.miners import MINERS
from src.training.options import build_recipe
from src.training.recipes import RECIPES, Mix
from src.training.terms import barlow_twins, intraclass_structure

BACKBONES = ("c2f2", "res18", "res50")
LETTERS = "rmsdh"
HARDNESS_NAMES = [
    HardnessName(*parts)
    for parts in product(
        (False, True), ("hm", "rh"), ("kl", "l2", "et"), LETTERS, LETTERS, (False, True)
    )
]


def recipe_of(name: str, eps: float = 8.0):
    config = parse_config(name)
    return build_recipe(config.options, config.arch, eps, step=1.0)


def test_there_are_1800_names_of_hardness_manipulation_and_all_come_back():
    names = [str(name) for name in HARDNESS_NAMES]
    assert len(set(names)) * len(BACKBONES) == 1800
    for backbone in BACKBONES:
        for name in names:
            assert str(parse_hardness_name(name)) == name
            config = parse_config(f"cub:r{backbone}{name}:ptripletN")
            assert config.arch == EMBEDDERS[backbone]
            recipe = build_recipe(config.options, config.arch, 8.0, 1.0)
            letters = name.rstrip("i")[-2:]
            assert (recipe.adversary is None) == (letters[0] == letters[1])
            assert bool(recipe.terms) == name.endswith("i")


def test_distinct_names_are_distinct_recipes():
    """Exceptions: a gradual destination has no miner, and a repeated letter is no attack."""
    recipes = {}
    for name in HARDNESS_NAMES:
        key = (name.anchor, name.objective, name.source, name.ics)
        same = name.source == name.destination
        where = "benign" if same else "lga" if name.gradual else name.destination
        key = (name.source, name.ics) if same else (*key, where)
        recipes.setdefault(key, set()).add(recipe_of(f"cub:rc2f2{name}:ptripletN"))
    assert all(len(of_key) == 1 for of_key in recipes.values())
    assert len({recipe for of_key in recipes.values() for recipe in of_key}) == len(recipes)


def test_the_flagship_is_what_the_long_options_say():
    options = RecipeOptions(
        "hm", loss="triplet", metric="N", source="softhard", dest="lga", ics=0.5
    )
    expected = build_recipe(options, "resnet18+512", 8.0, 1.0)
    assert recipe_of("cub:rres18ghmetsmi:ptripletN") == expected
    assert expected.miner == MINERS["softhard"]
    assert expected.adversary.perturbs == "apn"
    assert expected.adversary.destination == LossGuided()
    assert expected.terms == ((0.5, intraclass_structure),)


def test_letters_are_what_they_stand_for():
    recipe = recipe_of("sop:rres50rhl2dhi:pmtripletN")
    assert recipe.miner == MINERS["distance"]
    assert recipe.adversary.perturbs == "pn"
    assert recipe.adversary.objective.__name__ == "match_hardness"
    assert recipe.adversary.destination == MinerHardness(MINERS["hardest"])
    assert recipe.terms == ((0.05, intraclass_structure),)


@pytest.mark.parametrize("suffix", DEFENCES)
def test_every_plain_suffix_is_a_row_of_the_table(suffix):
    config = parse_config(f"fashion:rc2f2{suffix}:ptripletN")
    assert config.options.recipe in RECIPES
    recipe = recipe_of(f"fashion:rc2f2{suffix}:ptripletN", eps=77.0)
    assert isinstance(recipe, Mix) == (suffix in ("px", "amdsemiact", "hmix"))
    if suffix in ("df", "pf"):
        assert recipe.adversary.budget.steps == 1


@pytest.mark.parametrize(
    ("loss", "name", "metric", "miner"),
    [
        ("ptripletC", "triplet", "C", "random"),
        ("pmtripletN", "triplet", "N", "semihard"),
        ("pDtripletN", "triplet", "N", "distance_switch"),
        ("pmarginE", "margin", "E", "random"),
        ("pdmarginN", "margin", "N", "distance"),
        ("pmsN", "ms", "N", "random"),
        ("psnrN", "snr", "N", "random"),
        ("pgliftE", "lift", "E", "random"),
        ("phtripletE", "triplet", "E", "hardest"),
        ("piceC", "ice", "C", "random"),
        ("pnpairE", "npair", "E", "random"),
        ("pdquadN", "quad", "N", "distance"),
        ("pcontrastC", "contrast", "C", "random"),
        ("pangularN", "angular", "N", "random"),
    ],
)
def test_losses(loss, name, metric, miner):
    recipe = recipe_of(f"cub:rres18:{loss}")
    assert (recipe.loss.name, recipe.loss.metric) == (name, metric)
    assert recipe.miner == MINERS[miner]


def test_barlow_twins_come_with_the_model_or_with_the_loss():
    for name in ("cub:rres18pbt:ptripletN", "cub:rres18p:ptripletBTN"):
        assert recipe_of(name).terms == ((1e-5, barlow_twins),)


def test_classifiers():
    config = parse_config("cifar10:cres18:ce")
    assert (config.arch, config.options) == ("resnet18", RecipeOptions("plain"))


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("cub:rres18", "no <dataset>:<model>:<loss>"),
        ("birds:rres18:ptripletN", "unknown data set birds"),
        ("cub:rvgg16:ptripletN", "unknown model rvgg16"),
        ("cub:hres18:ptripletN", "unknown model hres18"),
        ("cub:rres18dco:ptripletN", "unknown defence dco"),
        ("cub:rres18hmetsx:ptripletN", "unknown defence hmetsx"),
        ("cub:rres18:ctripletN", "unknown loss ctripletN"),
        ("cub:rres18:pgilN", "unknown loss pgilN"),
        ("cifar10:cres18:ptripletN", "its loss is ce"),
    ],
)
def test_unknown_names_are_one_line(name, problem):
    with pytest.raises(UserError, match=problem):
        parse_config(name)
