"""The values of every run behind a summary."""

from collections.abc import Sequence

import pandas as pd

from src.measures.comparable import training_seed
from src.measures.comparison import Comparison


def runs_table(groups: Sequence[Sequence[Comparison]]) -> pd.DataFrame:
    """Return a row for every run and attacked pair of classes, with the mean over users of each measure.

    Clean runs stand for themselves with every origin class they are compared for. The columns of
    measures are called ``chr@20``; ``extractor_seed`` is that of the recorded training, if there is one.
    """
    rows = []
    for comparison in (of for comparisons in groups for of in comparisons):
        seed = training_seed(comparison.layout, comparison.runs[0].experiment.clean)
        for (run, origin), measured in comparison.measured.items():
            experiment = run.experiment
            rows.append(
                {
                    "dataset": comparison.layout.dataset,
                    "extractor": experiment.extractor,
                    "extractor_seed": seed,
                    "origin": origin,
                    "target": experiment.target,
                    "attack": experiment.attack_name,
                    "attack_seed": experiment.attack_seed if experiment.attack else None,
                    "recommender": run.model,
                    "seed": run.seed,
                    "protocol": run.protocol,
                    **{
                        metric if k is None else f"{metric}@{k}": values.mean()
                        for (metric, k), values in measured.items()
                    },
                }
            )
    table = pd.DataFrame(rows)
    whole = ["extractor_seed", "origin", "target", "attack_seed", "seed"]
    return table.astype(dict.fromkeys(whole, "Int64"))
