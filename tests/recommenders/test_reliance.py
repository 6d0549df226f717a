"""Swapped features: which recommenders read images, and on which way."""

import numpy as np
import pytest

from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout
from src.measures.reliance import swapped_features, visual_reliance
from src.measures.reliance_table import reliance_table, trained_recommenders
from src.recommenders.registry import RECOMMENDERS
from tests.recommenders.test_recommender_contract import data_of, fitted, options_of

WAYS = {
    "VBPR": "directly",
    "AMR": "directly",
    "DVBPR": "directly",
    "ACF": "through a graph",
    "BPRMF": "not at all",
    "LightGCN": "not at all",
    "Pop": "not at all",
}


@pytest.mark.parametrize(("name", "way"), WAYS.items())
def test_the_way_in_which_images_are_read(name, way):
    kind = RECOMMENDERS[name]
    form = next(iter(kind.forms.values()))
    swapped = swapped_features(fitted(kind, form), data_of(kind))
    assert swapped.reads == way
    assert (swapped.own > 0) == (way == "directly") and (swapped.others > 0) == (name == "ACF")


def test_all_that_a_recommender_of_pixels_ranks_by_is_visual():
    kind = RECOMMENDERS["DVBPR"]
    reliance = visual_reliance(fitted(kind, None), data_of(kind), 3)
    assert reliance.deviation_ratio == np.inf and 0 <= reliance.visual_auc <= 1


def test_the_table_takes_the_longest_training_of_every_seed(tmp_path):
    layout, kind = Layout("tiny", tmp_path), RECOMMENDERS["VBPR"]
    data = data_of(kind)
    (layout.data / "original").mkdir(parents=True)
    np.save(layout.features(Experiment()), data.features)
    np.savetxt(layout.training_set, data.interactions.train, "%d", "\t")
    np.savetxt(layout.test_set, data.interactions.test, "%d", "\t")
    layout.weights(Run(Experiment())).parent.mkdir(parents=True)
    for epochs, seed in ((1, 0), (2, 0), (2, 1)):
        run = Run(Experiment(), "VBPR", epochs, seed=seed, options="_K3")
        kind.fit(data, seed, **options_of(kind, "shared", data, seed)).save(layout.weights(run))
    trained = trained_recommenders(layout, Experiment(), ["VBPR", "ACF", "Pop"])
    assert [(of.run.model, of.run.epochs, of.seeds) for of in trained] == [
        ("Pop", 0, (0, 1)),
        ("VBPR", 2, (0, 1)),
    ]
    layout.images.mkdir()
    for item in range(len(data.features)):
        (layout.images / f"{item}.jpg").write_bytes(b"")
    table = reliance_table(layout, trained, 3)
    assert table["reads"].tolist() == ["not at all", "directly"]
    assert table["lost_hits"][0] == 0 and table["own"][0] == 0 < table["own"][1]
