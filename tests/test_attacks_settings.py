"""Names of attacked experiments, and settings that cannot be run."""

from dataclasses import replace

import pytest

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.fidelity import CORRECTED, PAPER
from src.attacks.settings import AttackSettings, add_attack_options, attack_settings, experiment
from src.cli import Parser, add_extractor_options


def parse(*arguments, fidelity=CORRECTED):
    parser = Parser("test")
    add_attack_options(parser)
    add_extractor_options(parser)
    return attack_settings(parser.parse_args(arguments), fidelity)


@pytest.mark.parametrize(
    ("settings", "model_dir", "name"),
    [
        (AttackSettings("fgsm", eps=4.0), None, "fgsm_774_770_eps4.0_it1_linf_XX"),
        (AttackSettings("pgd"), "madry", "madry_pgd_774_770_eps8.0_eps_it8.0_nb_it10_linf"),
        (AttackSettings("cw"), None, "cw_774_770_conf0_lr0.005_c0.01_max_it1000"),
        (
            AttackSettings("cw", 834, 869),
            "free_adv",
            "free_adv_cw_834_869_conf0_lr0.005_c0.01_max_it1000",
        ),
        (AttackSettings("spsa"), None, "spsa_774_770_eps8.0_delta0.01_nb_iter100_batch128"),
    ],
)
def test_published_names(settings, model_dir, name):
    built = experiment(settings, model_dir, CORRECTED)
    assert built.name == name
    assert Experiment.parse(name) == built
    assert experiment(settings, model_dir, PAPER).name == name + "_paper"


@pytest.mark.parametrize(
    ("settings", "suffix"),
    [
        (AttackSettings("pgd", eps_iter=2.0), "nb_it10_linf_step2.0"),
        (AttackSettings("pgd", random_start=False, seed=3), "linf_norand_seed3"),
        (AttackSettings("pgd", restarts=5), "linf_restarts5"),
        (AttackSettings("fgsm", fast=True, precision="bf16"), "XX_fast_bf16"),
        (AttackSettings("cw", binary_steps=9, confidence=0.5), "max_it1000_search9"),
        (AttackSettings("cw", engine="cleverhans"), "max_it1000_cleverhans"),
        (AttackSettings("cw", abort="never"), "max_it1000_noabort"),
        (AttackSettings("spsa", norm="2"), "batch128_l2"),
        (AttackSettings("ddn"), "ddn_774_770_steps100"),
        (AttackSettings("noise", target=None), "noise_774_any_eps8.0_linf"),
        # Options of other attacks do not show.
        (AttackSettings("fgsm", c=3.0, nb_iter=7, eps_iter=1.0), "fgsm_774_770_eps8.0_it1_linf_XX"),
    ],
)
def test_what_differs_from_the_paper_is_in_the_name(settings, suffix):
    settings.check(CORRECTED)
    name = experiment(settings, None, CORRECTED).name
    assert name.endswith(suffix)
    assert Experiment.parse(name).name == name


def test_options_become_settings():
    assert parse() == AttackSettings()
    settings = parse("--attack_type", "fgsm", "--eps", "4/255", "--l", "2", "--precision", "bf16")
    assert settings == AttackSettings("fgsm", eps=4.0, norm="2", fast=True, precision="bf16")
    assert parse("--untargeted").target is None
    assert parse("--attack_type", "spsa", "--nb_iter", "5", "--batch_size", "8").iterations == 5
    assert parse("--eps", "6").step == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"attack": "jsma"}, "jsma is not offered"),
        ({"attack": "zoo"}, "zoo is not offered"),
        ({"attack": "deepfool"}, "no attack 'deepfool'"),
        ({"target": 774}, "same class"),
        ({"origin": -1}, "from 0 on"),
        ({"norm": "1"}, "--l inf or 2"),
        ({"attack": "noise", "norm": "2"}, "--l inf"),
        ({"eps": 0.0}, "--eps must be"),
        ({"eps": float("nan")}, "--eps must be"),
        ({"eps": 0.5}, "under one grey level"),
        ({"eps_iter": 9.0}, "larger than --eps"),
        ({"nb_iter": -1}, "--nb_iter must be"),
        ({"restarts": 0}, "--restarts must be"),
        ({"attack": "fgsm", "restarts": 2}, "random start"),
        ({"random_start": False, "restarts": 2}, "random start"),
        ({"engine": "cleverhans"}, "for --attack_type cw"),
        ({"attack": "cw", "confidence": -1.0}, "--confidence"),
        ({"attack": "cw", "max_it": 0}, "--max_it"),
        ({"seed": -1}, "--seed"),
    ],
)
def test_what_cannot_be_run_says_so(changes, message):
    with pytest.raises(UserError, match=message):
        replace(AttackSettings(), **changes).check(CORRECTED)


def test_the_papers_space_has_its_own_limits():
    with pytest.raises(UserError, match="ddn"):
        AttackSettings("ddn").check(PAPER)
    with pytest.raises(UserError, match="cleverhans"):
        AttackSettings("cw", engine="cleverhans").check(PAPER)
    AttackSettings("pgd", eps=0.5).check(PAPER)


def test_classes_must_exist_in_the_model():
    AttackSettings().check_classes(1000, expected=1000)
    with pytest.raises(UserError, match="classes 0 to 772"):
        AttackSettings().check_classes(773)
    with pytest.raises(UserError, match="--num_classes is 10"):
        AttackSettings().check_classes(1000, expected=10)


def test_the_most_passes_an_image_can_need():
    assert AttackSettings("fgsm").passes == 1
    assert AttackSettings("pgd", restarts=3).passes == 33
    assert AttackSettings("cw").passes == 5000
    assert AttackSettings("spsa", nb_iter=2, samples=4).passes == 18
