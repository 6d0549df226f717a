"""The table of promotion against a count by hand, who knew what, and signs of attacks that failed."""

import shutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.measures.attack_failures import indicators
from src.measures.attack_records import resembles
from src.measures.promotion import NOT_EVALUATED, read_promotion
from src.measures.promotion_text import knowledge, promotion_overview, sentence
from src.measures.threats import is_control, threat_of
from src.measures.trace import trace
from tests.recommenders.test_delta import recommender
from tests.scripts import run_script
from tests.small_shops import write_attack, write_shop

IDS = np.array([3, 7, 14])
THIRDS = {"cold": [3, 7], "high": [14]}
K, EPOCHS = 5, 4
RANK = "apgd_1_rank_eps8.0_nb_iter30_linf_VBPR-ep4_n3"
NOISE = "noise_1_0_eps8.0_linf_n3"
APGD = "apgd_1_rank_eps{}.0_nb_iter{}_linf_VBPR-ep4"
TRANSFERRED = f"given_1_rank_eps8.0_linf_of_other_{APGD.format(8, 30).replace('_1_rank', '')}"
CLEAN_RUN = Run(Experiment(), "VBPR", EPOCHS)


def audit(root, *options: object) -> int:
    common = ("--root", root, "--dataset", "shop", "--epoch", EPOCHS, "--k", K)
    return run_script("audits.promotion", *common, *options)


def attacked_features(step: float) -> np.ndarray:
    """Features that most users like more, by ``step``."""
    visual, data = recommender(1.0)
    moved = data.features.copy()
    moved[IDS] += step * visual.slopes().mean(axis=0)
    return moved


@pytest.fixture
def shop(tmp_path) -> Layout:
    """Sixty items, two hundred users, a VBPR, noise, and an attack that it has been retrained on."""
    visual, data = recommender(1.0)
    layout = write_shop(tmp_path, visual, data, CLEAN_RUN)
    write_attack(layout, RANK, IDS, attacked_features(2.0))
    write_attack(layout, NOISE, IDS, attacked_features(0.2))
    tables = visual.weights.tables | {"E": visual.weights.tables["E"] / 2}
    learnt = replace(visual, weights=replace(visual.weights, tables=tables))
    learnt.save(layout.weights(replace(CLEAN_RUN, experiment=Experiment.parse(RANK))))
    return layout


def scores_by_hand(features: np.ndarray, visual=None) -> np.ndarray:
    clean, data = recommender(1.0)
    users, items = (visual or clean).factors(features)
    scores = users @ items.T
    scores[tuple(data.interactions.train.T)] = -np.inf
    return scores


def lists_by_hand(scores: np.ndarray) -> np.ndarray:
    return np.argsort(-scores, axis=1, kind="stable")[:, :K]


def exposure_by_hand(features: np.ndarray, ids: Sequence[int] = IDS) -> float:
    """Mean over items of the share of users who are shown an item when it alone has its features."""
    clean, moved = scores_by_hand(recommender(1.0)[1].features), scores_by_hand(features)
    shares = []
    for item in ids:
        scores = clean.copy()
        scores[:, item] = moved[:, item]
        shown = (lists_by_hand(scores) == item).any(axis=1)
        shares.append(shown.sum() / np.isfinite(clean[:, item]).sum())
    return float(np.mean(shares))


def test_the_rows_of_a_shop(shop, capsys):
    assert audit(shop.root) == 0
    table = read_promotion(shop.result("promotion.tsv"))
    printed = capsys.readouterr().out
    assert printed.endswith(f"{promotion_overview(table)}\n{sentence(table)}\n")
    rows = table[table["popularity"] == "any"].set_index(["objective", "scope", "threat"])
    assert len(rows) == 5
    clean, rank, noise = (
        exposure_by_hand(features)
        for features in (
            recommender(1.0)[1].features,
            attacked_features(2.0),
            attacked_features(0.2),
        )
    )
    one = rows.loc["rank", "one", "white_box"]
    assert one["before"] == pytest.approx(clean, rel=1e-4)
    assert one["after"] == pytest.approx(rank, rel=1e-4)
    assert one["control"] == pytest.approx(noise - clean, abs=1e-5)
    assert one["net"] == pytest.approx(rank - noise, abs=1e-5)
    assert one["low"] <= one["change"] <= one["high"] and one["change"] > 0
    assert rows.loc["noise", "one", "white_box"]["after"] == pytest.approx(noise, rel=1e-4)
    assert (one["eps"], one["norm"], one["k"], one["items"]) == (8, "inf", K, 3)

    data = recommender(1.0)[1]
    longer = attacked_features(2.0)
    lengths = [np.linalg.norm(of, axis=1, keepdims=True) for of in (data.features, longer)]
    restored = exposure_by_hand(longer * lengths[0] / lengths[1])
    assert one["restored"] == pytest.approx(restored - clean, abs=1e-5)
    assert one["place_after"] < one["place_before"] and one["score_shift"] > 0

    together = rows.loc["rank", "all", "white_box"]
    lists = lists_by_hand(scores_by_hand(longer))
    assert together["after"] == pytest.approx(np.isin(lists, IDS).sum(axis=1).mean(), rel=1e-4)
    clean_lists = lists_by_hand(scores_by_hand(data.features))
    clean_places = np.isin(clean_lists, IDS).sum(axis=1).mean()
    visual, _ = recommender(0.5)
    learnt = lists_by_hand(scores_by_hand(longer, visual))
    retrained = rows.loc["rank", "all", "retrained"]
    assert retrained["before"] == pytest.approx(clean_places, rel=1e-4)
    assert retrained["after"] == pytest.approx(np.isin(learnt, IDS).sum(axis=1).mean(), rel=1e-4)
    assert np.isnan(retrained["control"])


def test_the_worst_case_takes_each_items_best_image(shop):
    """The second attack moves item 14 further than the first one, and no other item."""
    second = recommender(1.0)[1].features.copy()
    second[14] = attacked_features(4.0)[14]
    write_attack(shop, RANK.replace("rank", "score"), IDS, second)
    assert audit(shop.root) == 0
    rows = read_promotion(shop.result("promotion.tsv"))
    rows = rows[(rows["scope"] == "one") & (rows["popularity"] == "any")].set_index(
        ["objective", "threat"]
    )
    mixed = attacked_features(2.0)
    mixed[14] = second[14]
    worst = rows.loc["any", "worst"]
    assert worst["after"] == pytest.approx(exposure_by_hand(mixed), rel=1e-4)
    assert worst["after"] > rows.loc["rank", "white_box"]["after"]
    assert worst["control"] == rows.loc["rank", "white_box"]["control"]
    assert worst["attack"] == RANK


def told(objective: str, threat: str, after: float, **values: object) -> dict[str, object]:
    """Row of a defended extractor."""
    names = {"extractor": "jpeg", "indicator": "", "after": after, "control": 0.001}
    return (
        row(APGD.format(8, 30), after - 0.01, threat=threat, objective=objective) | names | values
    )


def test_what_a_defence_keeps_out_by_what_the_attacker_knows():
    rows = [
        told("rank", "white_box", 0.2),
        told("rank", "unaware", 0.03),
        told("rank", "transfer", 0.02),
        told("any", "worst", 0.25),
        told("demote-rank", "white_box", 0.9),
        told("noise", "white_box", 0.8),
        told("rank", "white_box", 0.3, scope="all"),
        told("rank", "white_box", 0.7, extractor="original"),
        told("rank", "white_box", 0.05, eps=4.0, indicator="noise gains more"),
        told("any", "worst", 0.06, eps=4.0),
        told("rank", "unaware", 0.02, eps=4.0),
    ]
    known = knowledge(pd.DataFrame(rows)).set_index("eps")
    assert known.loc[8.0, ["knows_nothing", "knows_defence"]].tolist() == [0.03, 0.25]
    assert known.loc[8.0, "noise"] == pytest.approx(0.011)
    # No attack that knows the defence is evaluated, so that the best image of each item says nothing.
    assert known.loc[4.0, "knows_nothing"] == 0.02 and np.isnan(known.loc[4.0, "knows_defence"])


def test_rows_by_popularity_are_those_of_their_items(shop):
    assert audit(shop.root) == 0
    table = read_promotion(shop.result("promotion.tsv"))
    rows = table[table["scope"] == "one"].set_index(["objective", "popularity"])
    for objective, step in (("rank", 2.0), ("noise", 0.2)):
        for third, ids in THIRDS.items():
            row = rows.loc[objective, third]
            expected = exposure_by_hand(attacked_features(step), ids)
            assert row["after"] == pytest.approx(expected, rel=1e-4, abs=1e-6)
            assert row["items"] == len(ids)
    assert set(table["popularity"]) == {"any", *THIRDS}
    assert set(table.loc[table["scope"] == "all", "popularity"]) == {"any"}


def test_other_seeds_have_rows_of_their_own(shop):
    visual, _ = recommender(0.5)
    visual.save(shop.weights(replace(CLEAN_RUN, seed=1)))
    assert audit(shop.root, "--seed", 0, 1) == 0
    table = read_promotion(shop.result("promotion.tsv"))
    rows = table[(table["scope"] == "one") & (table["popularity"] == "any")]
    rows = rows.set_index(["objective", "threat"])
    own, other, noise = (
        rows.loc[of]
        for of in (("rank", "white_box"), ("rank", "other_seed"), ("noise", "white_box"))
    )
    assert (own["recommender_seeds"], other["recommender_seeds"]) == (1, 1)
    assert noise["recommender_seeds"] == 2
    assert own["after"] == pytest.approx(exposure_by_hand(attacked_features(2.0)), rel=1e-4)
    assert other["control"] == pytest.approx(2 * noise["change"] - own["control"], abs=1e-5)


def test_trainings_that_attack_other_items_are_compared_by_their_means(shop):
    """Every extractor has a class of its own, so that items are a part of what trainings differ in."""
    again, others = Layout("shop_1", shop.root), [int(item) for item in IDS[1:]]
    shutil.copytree(shop.data, again.data)
    shutil.copytree(shop.weights(CLEAN_RUN).parent, again.weights(CLEAN_RUN).parent)
    for name in (RANK, NOISE):
        pd.DataFrame({"image": others}).to_csv(
            again.data / name / "attack.tsv", sep="\t", index=False
        )
    assert audit(shop.root, "--trainings", "shop_1") == 0
    table = read_promotion(shop.result("promotion.tsv"))
    is_rank = (table["objective"] == "rank") & (table["threat"] == "white_box")
    (row,) = table[
        is_rank & (table["scope"] == "one") & (table["popularity"] == "any")
    ].itertuples()
    first, second = (exposure_by_hand(attacked_features(2.0), ids) for ids in (IDS, others))
    assert first != second
    assert row.after == pytest.approx((first + second) / 2, rel=1e-5)
    assert row.extractor_seeds == 2 and "item" not in row.weakest_level


def test_what_stage_3_saw_of_an_attack_raises_indicators(shop):
    path = shop.attack_report(Experiment.parse(RANK))
    seen = {"image": IDS, "no_gradient": [0, 1, 0], "best_step": [30, 30, 4], "last_step": 30}
    pd.DataFrame(seen).to_csv(path, sep="\t", index=False)
    assert audit(shop.root) == 0
    table = read_promotion(shop.result("promotion.tsv"))
    rank = table[(table["objective"] == "rank") & (table["threat"] == "white_box")]
    for row in rank.itertuples():
        assert row.no_gradient == pytest.approx(1 / 3) and row.best_is_last == pytest.approx(2 / 3)
        assert "33% of the images start without a gradient" in row.indicator
        assert "the last step is the best of 67%" in row.indicator
        assert row.verdict == NOT_EVALUATED
    noise = table[table["objective"] == "noise"]
    assert (noise["indicator"] == "").all() and noise["no_gradient"].isna().all()


def test_the_last_step_tells_nothing_where_steps_fall(shop):
    falling = Experiment.parse(RANK.replace("apgd", "annealed"))
    write_attack(shop, falling.name, IDS, attacked_features(2.0))
    seen = {"image": IDS, "no_gradient": 0, "best_step": 30, "last_step": 30}
    pd.DataFrame(seen).to_csv(shop.attack_report(falling), sep="\t", index=False)
    assert audit(shop.root) == 0
    table = read_promotion(shop.result("promotion.tsv"))
    of_falling = table[table["attack"] == falling.name]
    assert len(of_falling) and (of_falling["indicator"] == "").all()


def test_a_recommender_may_be_missing_on_some_extractors(shop, capsys):
    assert audit(shop.root, "--model", "VBPR", "AMR") == 2
    assert "original_step4_AMR.npz: run rec_generator.py" in capsys.readouterr().err
    other = Experiment("jpeg")
    (shop.data / other.name).mkdir()
    np.save(shop.features(other), recommender(1.0)[1].features)
    write_attack(shop, f"jpeg_{NOISE}", IDS, attacked_features(0.2))
    assert audit(shop.root) == 0
    assert "left out jpeg_original: no VBPR is trained on it\n" in capsys.readouterr().out
    recommender(1.0)[0].save(shop.weights(replace(CLEAN_RUN, model="AMR")))
    recommender(1.0)[0].save(shop.weights(replace(CLEAN_RUN, experiment=other)))
    assert audit(shop.root, "--model", "VBPR", "AMR") == 0
    table = read_promotion(shop.result("promotion.tsv"))
    subjects = set(zip(table["extractor"], table["recommender"], strict=True))
    assert subjects == {("original", "VBPR"), ("original", "AMR"), ("jpeg", "VBPR")}


def test_the_table_for_documents(shop, capsys):
    assert audit(shop.root) == 0
    capsys.readouterr()
    table = read_promotion(shop.result("promotion.tsv"))
    assert audit(shop.root, "--markdown") == 0
    printed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("|")]
    heads, _, *lines = ([cell.strip() for cell in line.split("|")[1:-1]] for line in printed)
    by_attack = {(line[0], line[1]): dict(zip(heads, line, strict=True)) for line in lines}
    rank = ("white box", "rank by apgd, 30 steps, 8/255")
    assert list(by_attack) == [("white box", "noise, 8/255"), rank, ("retrained", rank[1])]
    one, together = (
        table[(table["objective"] == "rank") & (table["scope"] == scope)].iloc[0]
        for scope in ("one", "all")
    )
    shown = by_attack[rank]
    exposures = [100 * (one["before"] + one[bound]) for bound in ("change", "low", "high")]
    of_table = "{:.1f} [{:.1f}, {:.1f}]".format(*exposures) + f" ({100 * one['before']:.1f})"
    assert shown[f"exposure@{K}, % (clean)"] == of_table
    lists = f"{together['after']:.1f} ({together['before']:.1f})"
    assert shown[f"CHR@{K}, all at once (clean)"] == lists


def test_noise_on_other_items_is_no_control(shop):
    table = shop.attack_report(Experiment.parse(NOISE))
    pd.DataFrame({"image": [3, 7, 21]}).to_csv(table, sep="\t", index=False)
    assert audit(shop.root) == 0
    rows = read_promotion(shop.result("promotion.tsv"))
    assert rows["control"].isna().all() and (rows["verdict"] == "").all()


@pytest.mark.parametrize(
    ("name", "model", "threat"),
    [
        ("pgd_1_0_eps8.0_eps_it8.0_nb_it10_linf_n3", "VBPR_lr0.05", "white_box"),
        ("apgd_1_rank_eps8.0_nb_iter30_linf_VBPR-ep4-lr0.05", "VBPR_lr0.05", "white_box"),
        ("apgd_1_rank_eps8.0_nb_iter30_linf_VBPR-ep4-lr0.05", "VBPR_lr0.05_seed1", "other_seed"),
        ("apgd_1_rank_eps8.0_nb_iter30_linf_VBPR-ep4-lr0.05", "AMR_lr0.05", "other_recommender"),
        ("square_1_rank_eps8.0_queries99_linf_VBPR-ep4-lr0.05", "VBPR_lr0.05", "ranks_only"),
        ("nes_1_rank_eps8.0_queries99_linf_VBPR-ep4-lr0.05", "AMR_lr0.05", "other_recommender"),
        (
            "given_1_rank_eps8.0_linf_of_original_apgd_eps8.0_nb_iter3_linf_VBPR-ep4-lr0.05",
            "VBPR_lr0.05",
            "transfer",
        ),
        ("apgd_1_rank_eps8.0_nb_iter3_linf_VBPR-ep4-lr0.05_unaware", "VBPR_lr0.05", "unaware"),
    ],
)
def test_what_attackers_know(name, model, threat):
    judge = Run.parse(f"original_top{K}_ep4_{model}")
    assert threat_of(Experiment.parse(name), judge) == threat


def test_noise_of_another_extractor_is_a_control():
    given = "given_1_0_eps8.0_linf_of_original"
    assert is_control(Experiment.parse(f"{given}_noise_eps8.0_linf_n3"))
    assert not is_control(Experiment.parse(f"{given}_pgd_eps8.0_eps_it8.0_nb_it10_linf"))


def row(attack: str, change: float, **values: object) -> dict[str, object]:
    experiment = Experiment.parse(attack)
    return {
        "extractor": "original",
        "recommender": "VBPR",
        "threat": "white_box",
        "objective": "noise" if is_control(experiment) else experiment.objective or "class",
        "norm": "inf",
        "eps": 8.0,
        "scope": "one",
        "k": 20,
        "popularity": "any",
        "items": 3,
        "item_ids": (3, 7, 20),
        "no_gradient": 0.0,
        "best_is_last": 0.1,
        "before": 0.01,
        "change": change,
        "net": change - 0.001,
        "attack": attack,
    } | values


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (
            [row(APGD.format(8, 30), 0.20), row(APGD.format(8, 60), 0.21)],
            ["not converged: more steps gain", ""],
        ),
        ([row(APGD.format(8, 30), 0.20), row(APGD.format(8, 60), 0.203)], ["", ""]),
        ([row(APGD.format(8, 30), 0.20), row(APGD.format(8, 45), 0.30)], ["", ""]),
        (
            [row(APGD.format(8, 30), 0.20), row(APGD.format(8, 30) + "_restarts5", 0.23)],
            ["not converged: more steps gain", ""],
        ),
        (
            [row(APGD.format(8, 30), 0.10), row(APGD.format(4, 30), 0.12, eps=4.0)],
            ["a smaller budget gains more", ""],
        ),
        (
            [row(APGD.format(8, 30), 0.10), row(TRANSFERRED, 0.12, threat="transfer")],
            ["an attack that knows less gains more", ""],
        ),
        (
            [
                row(APGD.format(8, 30), 0.10),
                row(TRANSFERRED, 0.12, threat="transfer", item_ids=(3, 7, 21)),
            ],
            ["", ""],
        ),
        (
            [row(APGD.format(8, 30), 0.10, no_gradient=0.25)],
            ["25% of the images start without a gradient"],
        ),
        (
            [row(APGD.format(8, 30), 0.10, best_is_last=2 / 3)],
            ["not converged: the last step is the best of 67%"],
        ),
        ([row(APGD.format(8, 30), 0.10, no_gradient=np.nan, best_is_last=np.nan)], [""]),
        ([row(TRANSFERRED, 0.10, no_gradient=0.9, best_is_last=0.9, threat="transfer")], [""]),
        ([row(APGD.format(8, 30), 0.10, net=-0.01)], ["noise gains more"]),
        (
            [row(APGD.format(8, 30), 0.10), row(APGD.format(8, 30) + "_eot40", 0.13)],
            ["more draws gain", ""],
        ),
        ([row(APGD.format(8, 30), 0.10), row(APGD.format(8, 30) + "_eot40", 0.11)], ["", ""]),
        *(
            (
                [
                    row(APGD.format(8, 30), 0.10, scope="all"),
                    row(APGD.format(8, 30) + "_eot40", of_three_items, scope="all"),
                ],
                [sign, ""],
            )
            for of_three_items, sign in ((0.15, ""), (0.17, "more draws gain"))
        ),
        (
            [row(APGD.format(8, 30) + "_eot1", 0.05), row(APGD.format(8, 30), 0.10)],
            ["more draws gain", ""],
        ),
        ([row("pgd_1_0_eps8.0_eps_it8.0_nb_it10_linf", 0.10, net=-0.01)], [""]),
        ([row(TRANSFERRED, 0.10, net=-0.01, threat="transfer")], [""]),
        (
            [
                row("apgd_1_demote-rank_eps8.0_nb_iter30_linf_VBPR-ep4", -0.004, net=-0.005),
                row("apgd_1_demote-rank_eps8.0_nb_iter60_linf_VBPR-ep4", -0.002, net=0.001),
            ],
            ["", "noise gains more"],
        ),
        (
            [row(APGD.format(8, 30), 0.10), row(APGD.format(8, 60), 0.2, recommender="AMR")],
            ["", ""],
        ),
    ],
)
def test_signs_of_attacks_that_failed(rows, expected):
    assert indicators(pd.DataFrame(rows)) == expected


def test_the_sentence_calls_an_attack_that_is_not_evaluated_a_lower_bound():
    rows = pd.DataFrame([row(APGD.format(8, 30), 0.1), row(APGD.format(8, 60), 0.2)])
    rows = rows.assign(after=rows["before"] + rows["change"], control=0.02, indicator=["", "x"])
    said = sentence(rows)
    assert "of 21.0% of the users" in said and said.endswith("3.0%. This is a lower bound (x).")
    assert "lower bound" not in sentence(rows.assign(indicator=""))
    assert "no verdict" not in said
    assert "no verdict without noise of the same size" in sentence(rows.assign(control=np.nan))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--model", "BPRMF"], "BPRMF does not look at images"),
        (["--epoch", 9], "original_step9_VBPR.npz: run rec_generator.py"),
        (["--seed", 1], "original_step4_VBPR_seed1.npz: run rec_generator.py"),
        (["--trainings", "nowhere"], "no data set at"),
    ],
)
def test_bad_input_is_one_line(shop, capsys, options, message):
    assert audit(shop.root, *options) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not shop.results.exists()


def test_nothing_attacked(shop, capsys):
    for name in (RANK, NOISE):
        (shop.data / name / "attack.tsv").unlink()
    assert audit(shop.root) == 2
    assert "nothing is attacked in" in capsys.readouterr().err


def test_a_row_is_traced_to_the_attack_and_its_noise(shop):
    assert audit(shop.root) == 0
    table = read_promotion(shop.result("promotion.tsv"))
    number = 1 + int(np.flatnonzero((table["attack"] == RANK) & (table["scope"] == "one"))[0])

    def traced(row: int) -> str:
        return trace(shop.result("promotion.tsv"), row, [])

    printed = traced(number)
    weights = shop.weights(replace(CLEAN_RUN, experiment=Experiment.parse(RANK)))
    for name in ("original", RANK, NOISE):
        assert str(shop.data / name / "features.npy") in printed
    assert str(shop.weights(CLEAN_RUN)) in printed and str(weights) not in printed
    retrained = 1 + int(np.flatnonzero(table["threat"] == "retrained")[0])
    assert str(weights) in traced(retrained)


def test_noise_like_an_attack_on_lists_is_recognised_by_its_aim(shop):
    rank = Experiment.parse(RANK)
    noise = Experiment.parse(f"noise_1_0_like_apgd_rank_{rank.parameters}")
    assert resembles(shop, noise, rank)
    assert not resembles(shop, noise, replace(rank, objective="score"))
    assert not resembles(shop, noise, replace(rank, objective="", target=0))
