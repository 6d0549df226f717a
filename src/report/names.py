"""Names of experiments and measures for readers."""

from collections import Counter
from collections.abc import Sequence

from src.artifacts.classes import read_classes
from src.artifacts.experiments import Experiment
from src.artifacts.layout import Layout
from src.measures.attack_records import budget_of
from src.measures.verdicts import CONTROL

ATTACKS = {
    "cw": "C&W",
    "noise": "noise",
    "attention": "attention",
    "given": "given",
    "square": "Square",
}
"""Names other than the option in capital letters."""
METRICS = {
    "chr": "CHR", "chr_normalised": "CHR / K", "ncdcg": "nCDCG", "hr": "HR", "ndcg": "nDCG", "auc": "AUC",
    "recall": "recall", "precision": "precision", "map": "MAP", "mrr": "MRR",
}  # fmt: skip
PROTOCOLS = {"test_time": "at test time", "retrained": "retrained"}


def attack_name(experiment: Experiment) -> str:
    """Return ``PGD`` or ``C&W``, with the norm unless it is L∞: ``FGSM L2``."""
    name = ATTACKS.get(experiment.attack, experiment.attack.upper())
    budget = budget_of(experiment)
    return name if budget is None or budget[1] == "inf" else f"{name} L{budget[1]}"


def attack_labels(experiments: Sequence[Experiment]) -> dict[str, str]:
    """Return labels such as ``PGD ε 8``, longer if ambiguous, by the attack's part of the name.

    Attacks on other classes and with other extractors share their labels.
    """
    attacks = {experiment.attack_name: experiment for experiment in experiments}
    labels = {name: _short_label(experiment) for name, experiment in attacks.items()}
    alike = Counter((labels[name], of.origin, of.aim) for name, of in attacks.items())
    return {
        name: label if alike[label, of.origin, of.aim] == 1 else f"{label}: {of.parameters}"
        for (name, label), of in zip(labels.items(), attacks.values(), strict=True)
    }


def _short_label(experiment: Experiment) -> str:
    budget = budget_of(experiment)
    seed = f", seed {experiment.attack_seed}" if experiment.attack_seed else ""
    return attack_name(experiment) + (f" ε {budget[0]:g}" if budget else "") + seed


def pair_label(layout: Layout, experiment: Experiment) -> str:
    """Return ``sandal → running shoe``: the attacked class and its target."""
    classes = read_classes(layout.classes(experiment.clean))
    if experiment.objective:
        return f"{classes.label_of(experiment.origin)} → lists ({experiment.objective})"
    if experiment.target is None:
        return f"{classes.label_of(experiment.origin)} → any other class"
    return f"{classes.label_of(experiment.origin)} → {classes.label_of(experiment.target)}"


def attack_order(experiment: Experiment) -> tuple:
    """Return a key that sorts attacks: controls last, then by kind and by budget."""
    budget = budget_of(experiment)
    kind = experiment.attack or ""
    return (kind == CONTROL, budget is None, kind, budget or (0.0, ""), experiment.name)
