"""Names of attacked experiments, and settings that cannot be run."""

from dataclasses import replace

import pytest

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.fidelity import CORRECTED, PAPER
from src.artifacts.layout import Layout
from src.attacks.attack import Budget, options_of
from src.attacks.registry import (
    ATTACKS,
    CW,
    DDN,
    FGSM,
    PGD,
    PRESETS,
    SPSA,
    AutoAttack,
    IterLL,
    Noise,
    attack_named,
)
from src.attacks.settings import (
    AttackSettings,
    add_attack_options,
    attack_settings,
    experiment,
    kind_of,
)
from src.cli import Parser, add_extractor_options, add_fidelity_option
from src.defences.options import add_preprocess_option
from src.recommenders.read_out import add_score_options, score_weights_of


def parse(*arguments, fidelity=CORRECTED):
    parser = Parser("test")
    add_attack_options(parser)
    add_extractor_options(parser)
    add_preprocess_option(parser)
    return attack_settings(parser.parse_args(arguments), fidelity)


@pytest.mark.parametrize(
    ("settings", "model_dir", "name"),
    [
        (AttackSettings("fgsm", FGSM(4.0)), None, "fgsm_774_770_eps4.0_it1_linf_XX"),
        (AttackSettings("pgd"), "madry", "madry_pgd_774_770_eps8.0_eps_it8.0_nb_it10_linf"),
        (AttackSettings("cw", CW()), None, "cw_774_770_conf0_lr0.005_c0.01_max_it1000"),
        (
            AttackSettings("cw", CW(), 834, 869),
            "free_adv",
            "free_adv_cw_834_869_conf0_lr0.005_c0.01_max_it1000",
        ),
        (AttackSettings("spsa", SPSA()), None, "spsa_774_770_eps8.0_delta0.01_nb_iter100_batch128"),
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
        (AttackSettings("pgd", PGD(eps_iter=2.0)), "nb_it10_linf_step2.0"),
        (AttackSettings("pgd", PGD(6.0, eps_iter=1.0)), "nb_it10_linf"),
        (AttackSettings("pgd", PGD(random_start=False), seed=3), "linf_norand_seed3"),
        (AttackSettings("pgd", PGD(engine="cleverhans")), "linf_cleverhans"),
        (AttackSettings("pgd", restarts=5), "linf_restarts5"),
        (AttackSettings("fgsm", FGSM(), fast=True, precision="bf16"), "XX_fast_bf16"),
        (AttackSettings("cw", CW(binary_steps=9, confidence=0.5)), "max_it1000_search9"),
        (AttackSettings("cw", CW(engine="cleverhans", abort="never")), "max_it1000_cleverhans"),
        (AttackSettings("cw", CW(abort="never")), "max_it1000_noabort"),
        (AttackSettings("spsa", SPSA(norm="2")), "batch128_l2"),
        (AttackSettings("ddn", DDN()), "ddn_774_770_steps100"),
        (AttackSettings("noise", Noise(), target=None), "noise_774_any_eps8.0_linf"),
        (AttackSettings("noise", Noise(like="ddn_steps100")), "noise_774_770_like_ddn_steps100"),
        (AttackSettings("iterll", IterLL(nb_iter=3), target=None), "eps8.0_linf_nb_it3"),
        (AttackSettings("autoattack", AutoAttack(effort="fast"), target=None), "eps8.0_linf_fast"),
    ],
)
def test_what_differs_from_the_paper_is_in_the_name(settings, suffix):
    settings.check(CORRECTED)
    name = experiment(settings, None, CORRECTED).name
    assert name.endswith(suffix)
    assert Experiment.parse(name).name == name


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_attack_has_a_name_that_can_be_taken_apart(kind):
    target = 770 if ATTACKS[kind].targeted else None
    named = experiment(AttackSettings(kind, ATTACKS[kind](), target=target), "free_adv", CORRECTED)
    assert Experiment.parse(named.name) == named
    assert (named.model_dir, named.attack) == ("free_adv", kind)


@pytest.mark.parametrize("kind", ATTACKS)
def test_every_parameter_of_an_attack_can_be_given_and_is_in_its_name(kind):
    """Another value of each option makes another name, unless the option does not affect images."""
    usual = ATTACKS[kind]()
    for of in options_of(ATTACKS[kind]):
        flag = of.metadata["flag"] or of.name
        if isinstance(of.default, bool):
            given, value = [f"--{flag}"], not of.default
        elif choices := of.metadata["choices"]:
            given, value = [f"--{flag}", choices[-1]], choices[-1]
        else:
            texts = {"eps": "9", "eps_iter": "2", "like": "cw_774_any_x", "queries": "99"}
            text = texts.get(of.name, "3")
            given = [f"--{flag}", text]
            value = "cw_x" if of.name == "like" else of.metadata["parse"](text)
        settings = parse("--attack_type", kind, "--untargeted", *given)
        assert getattr(settings.attack, of.name) == value
        if value != of.default:
            assert settings.attack.name != usual.name


def test_options_become_settings():
    assert parse() == AttackSettings()
    settings = parse("--attack_type", "fgsm", "--eps", "4/255", "--l", "2", "--precision", "bf16")
    expected = AttackSettings("fgsm", FGSM(4.0, norm="2"), fast=True, precision="bf16")
    assert settings == expected
    assert parse("--untargeted").target is None
    assert parse("--attack_type", "spsa", "--nb_iter", "5", "--batch_size", "8").attack.nb_iter == 5
    assert parse("--eps", "6").attack.step == 1.0


def test_budgets_are_what_stored_images_are_held_to():
    assert PGD(4.0, "2").budget == Budget(4.0, "2")
    assert AutoAttack(3.0).budget == Budget(3.0, "inf")
    assert CW().budget is DDN().budget is Noise(like="x").budget is None
    described = AttackSettings("pgd", PGD(4.0, "2")).described()
    assert described["budget"] == {"eps": 4.0, "norm": "2"}
    assert described["parameters"]["nb_iter"] == 10


@pytest.mark.parametrize("name", [*ATTACKS, *PRESETS])
def test_every_attack_can_be_named_with_a_budget(name):
    attack = attack_named(name, 2.0)
    attack.check(name)
    assert attack.budget in (None, Budget(2.0))


def test_step_sizes_of_robust_accuracy_are_quarters():
    assert attack_named("pgd20", 8.0) == PGD(8.0, nb_iter=20, eps_iter=2.0)
    assert attack_named("pgd100", 8.0).step == attack_named("keep20", 8.0).step == 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("--attack_type jsma", "jsma is not offered"),
        ("--attack_type zoo", "zoo is not offered"),
        ("--attack_type deepfool", "no attack 'deepfool'"),
        ("--target_class 774", "same class"),
        ("--origin_class -1", "from 0 on"),
        ("--attack_type spsa --l 1", "--l inf or 2, not 1"),
        ("--l 1 --engine cleverhans", "no L1 ball"),
        ("--eps 0", "--eps must be"),
        ("--eps nan", "--eps must be"),
        ("--eps 0.5", "under one grey level"),
        ("--eps_iter 9", "larger than --eps"),
        ("--steps -1", "--steps must be"),
        ("--nb_iter 0", "--steps must be"),
        ("--restarts 0", "--restarts must be"),
        ("--attack_type fgsm --restarts 2", "random start"),
        ("--no_rand_init --restarts 2", "random start"),
        ("--attack_type cw --confidence -1", "--confidence"),
        ("--attack_type cw --steps 0", "--steps"),
        ("--attack_type spsa --probes 0", "--probes must be at least 1"),
        ("--attack_type autoattack", "add --untargeted"),
        ("--attack_type iterll", "add --untargeted"),
        ("--attack_type fgsm --c 3", "--c: --attack_type fgsm has none; it is for cw"),
        ("--attack_type fgsm --steps 7", "--steps"),
        ("--attack_type cw --step_size 1", "--step_size"),
        ("--eps 300", "beyond all 255 grey levels"),
    ],
)
def test_what_cannot_be_run_says_so(arguments, message):
    with pytest.raises(UserError, match=message):
        parse(*arguments.split())


def test_the_papers_space_has_its_own_limits():
    for settings, message in (
        (AttackSettings("ddn", DDN()), "ddn"),
        (AttackSettings("cw", CW(engine="cleverhans")), "needs pixels"),
        (AttackSettings("noise", Noise(norm="2")), "whole grey levels"),
        (AttackSettings("autoattack", AutoAttack(), target=None), "autoattack"),
    ):
        settings.check(CORRECTED)
        with pytest.raises(UserError, match=message):
            settings.check(PAPER)
    AttackSettings("pgd", PGD(0.5)).check(PAPER)


def test_classes_must_exist_in_the_model():
    AttackSettings().check_classes(1000, expected=1000)
    with pytest.raises(UserError, match="classes 0 to 772"):
        AttackSettings().check_classes(773)
    with pytest.raises(UserError, match="--num_classes is 10"):
        AttackSettings().check_classes(1000, expected=10)


def test_the_most_passes_an_image_can_need():
    assert AttackSettings("fgsm", FGSM()).passes == 1
    assert AttackSettings("pgd", restarts=3).passes == 33
    assert AttackSettings("cw", CW()).passes == 5000
    assert AttackSettings("spsa", SPSA(nb_iter=2, batch_size=4)).passes == 18


def test_an_attack_prints_its_parameters():
    assert "nb_iter=10" in repr(PGD()) and "eps=8.0" in repr(PGD())
    assert replace(PGD(), eps=4.0) == PGD(4.0)


def test_score_options_choose_among_trainings_of_a_recommender(tmp_path):
    layout, clean = Layout("shop", tmp_path), Experiment()
    for options in ("_lr0.05", "_lr0.05_eps0.1"):
        path = layout.weights(Run(clean, "AMR", 2, options=options))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    parser = Parser("")
    add_score_options(parser)
    add_fidelity_option(parser)

    def chosen(words):
        options = parser.parse_args(f"--score_model AMR --score_epoch 2 {words}".split())
        return score_weights_of(options, layout, clean).stem

    assert chosen("--score_options lr0.05") == "original_step2_AMR_lr0.05"
    assert chosen("--score_options lr0.05_eps0.1") == "original_step2_AMR_lr0.05_eps0.1"
    with pytest.raises(UserError, match="several trainings of AMR fit"):
        chosen("")
    with pytest.raises(UserError, match="missing file"):
        chosen("--score_options published")


@pytest.mark.parametrize("kind", ATTACKS)
def test_published_names_of_parameters_mean_the_same(kind):
    for of in options_of(ATTACKS[kind]):
        name, text = of.metadata["flag"] or of.name, "3"
        for alias in of.metadata["aliases"]:
            first, second = (
                parse("--attack_type", kind, "--untargeted", f"--{flag}", text)
                for flag in (name, alias)
            )
            assert first == second
            assert getattr(first.attack, of.name) == of.metadata["parse"](text)


@pytest.mark.parametrize("fidelity", [CORRECTED, PAPER])
def test_a_budget_beyond_all_grey_levels_is_refused(fidelity):
    assert parse("--eps", "255", "--attack_type", "fgsm", fidelity=fidelity).attack.eps == 255
    with pytest.raises(UserError, match=r"--eps 256\.0 is beyond all 255 grey levels"):
        parse("--eps", "256", "--attack_type", "fgsm", fidelity=fidelity)


def test_an_experiment_of_an_attack_that_is_not_there_is_named():
    assert kind_of(Experiment.parse("noise_7_5_eps8.0_linf")) is Noise
    with pytest.raises(
        UserError, match=r"mine_7_5_eps8\.0_linf: this version has no attack 'mine'"
    ):
        kind_of(Experiment.parse("mine_7_5_eps8.0_linf"))
