"""Ranks of conditions by leakage."""

import pandas as pd
import pytest

from src.artifacts.errors import UserError
from src.measures.leak_ranks import leak_ranks, mean_leak_ranks
from tests.scripts import run_script

MEANS = pd.DataFrame(
    {"model": ["plain", "pruned", "noisy"], "images": [4, 4, 4]}
    | {"mse": [0.01, 0.05, 0.03], "psnr": [20.0, 13.0, 15.0], "semsim": [0.4, 0.4, 0.9]}
    | {"psnr_untransformed": [9.0, 10.0, 11.0]}
)
BOUNDS = {f"{name}{end}": 0.0 for name in MEANS.columns[2:] for end in ("_low", "_high")}
CONDITIONS = MEANS.assign(**BOUNDS)


def test_rank_1_leaks_most_whichever_way_a_metric_is_oriented():
    ranks = leak_ranks(CONDITIONS).set_index("model")
    assert ranks["mse_rank"].to_dict() == {"plain": 1, "noisy": 2, "pruned": 3}
    assert ranks["psnr_rank"].to_dict() == {"plain": 1, "noisy": 2, "pruned": 3}
    assert ranks["semsim_rank"].to_dict() == {"plain": 1.5, "pruned": 1.5, "noisy": 3}
    assert ranks["psnr_untransformed_rank"].to_dict() == {"noisy": 1, "pruned": 2, "plain": 3}
    assert list(ranks.index) == ["plain", "noisy", "pruned"]
    assert ranks["mean_rank"]["noisy"] == pytest.approx((2 + 2 + 3) / 3)


def test_what_could_not_be_measured_comes_last():
    ranks = leak_ranks(CONDITIONS.assign(psnr=[None, 13.0, 15.0])).set_index("model")
    assert ranks["psnr_rank"].to_dict() == {"noisy": 1, "pruned": 2, "plain": 3}


def test_a_condition_of_which_nothing_was_reconstructed_is_last_by_all_metrics():
    nothing = dict.fromkeys(CONDITIONS.columns[2:])
    diverged = pd.DataFrame([{"model": "diverged", "images": 0, **nothing}])
    ranks = leak_ranks(pd.concat([diverged.astype({"psnr": float}), CONDITIONS]))
    assert ranks["model"].iloc[-1] == "diverged"
    assert (ranks.iloc[-1].filter(like="_rank") == 4).all()


def test_tables_without_conditions_are_refused():
    with pytest.raises(UserError, match="no conditions with metrics"):
        leak_ranks(MEANS)


def test_ranks_of_several_trainings_are_averaged_condition_by_condition():
    other = CONDITIONS.assign(mse=[0.05, 0.01, 0.03])[::-1]  # its rows are in another order
    ranks = mean_leak_ranks([CONDITIONS, other]).set_index("model")
    assert ranks["mse"].to_dict() == pytest.approx({"plain": 0.03, "noisy": 0.03, "pruned": 0.03})
    assert ranks["mse_rank"].to_dict() == {"plain": 2, "noisy": 2, "pruned": 2}
    half = 12.706204736 * 0.04 / 2  # Student's t with 1 degree of freedom, times sd / sqrt(2)
    assert ranks.loc["plain", "mse_low"] == pytest.approx(0.03 - half)
    assert ranks.loc["pruned", "mse_high"] == pytest.approx(0.03 + half)
    assert set(ranks["trainings"]) == {2} and set(ranks["images"]) == {4}
    assert list(ranks["mean_rank"]) == sorted(ranks["mean_rank"])


def test_trainings_of_other_conditions_are_refused():
    for other in (CONDITIONS[:2], CONDITIONS.drop(columns="psnr")):
        with pytest.raises(UserError, match="different conditions"):
            mean_leak_ranks([CONDITIONS, other])


def test_the_script_writes_the_ranks(tmp_path, capsys):
    source, table = tmp_path / "conditions.tsv", tmp_path / "results" / "semsim.tsv"
    CONDITIONS.to_csv(source, sep="\t", index=False)
    assert run_script("summarize", "--leaks", source, table) == 0
    written = pd.read_csv(table, sep="\t")
    assert list(written["model"]) == ["plain", "noisy", "pruned"]
    assert "psnr_untransformed_rank" in written and "mse_low" not in written
    shown = capsys.readouterr().out
    assert "psnr_rank" in shown and "untransformed" not in shown
    source.unlink()
    assert run_script("summarize", "--leaks", source, table) == 2
    assert run_script("summarize", "--leaks", table) == 2
    assert "name one before it" in capsys.readouterr().err
