"""The two ways to run the pipeline: corrected, and as published."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fidelity:
    """Every choice in which the published code and the corrected pipeline differ.

    Code asks for the choice it needs (``fidelity.quantise``) and never for the name of the mode, so
    that each difference is one field here and one line in the README.
    """

    name: Literal["corrected", "paper"]
    budget_space: Literal["pixel", "normalised"]
    """Where eps is measured: in pixels within [0, 1], or after mean and std without clipping."""
    quantise: Literal["round", "truncate"]
    """How attacked pixels become 8-bit grey levels."""
    origin_classes: Literal["same", "undefended"]
    """Whose clean classes choose the images to attack: the attacked extractor's, or the plain one's."""
    base_features: Literal["same", "undefended"]
    """Whose clean features fill the rows of the images that were not attacked."""
    regulariser: Literal["squared", "signed"]
    """VBPR and AMR: squared L2 norms, or the sums of signed entries of the published code."""
    mf_regulariser: Literal["squared", "mean"]
    """BPR-MF and AMF: squared L2 norms of a batch's rows, or the mean of their squared entries."""
    stale_clean_term: bool
    """AMF-full: the term of the loss that should be clean is under the perturbation of the batch before,
    as in a published notebook."""
    drop_last_batch: bool
    """Each recommender epoch leaves out the last, incomplete batch."""


CORRECTED = Fidelity(
    name="corrected",
    budget_space="pixel",
    quantise="round",
    origin_classes="same",
    base_features="same",
    regulariser="squared",
    mf_regulariser="squared",
    stale_clean_term=False,
    drop_last_batch=False,
)

PAPER = Fidelity(
    name="paper",
    budget_space="normalised",
    quantise="truncate",
    origin_classes="undefended",
    base_features="undefended",
    regulariser="signed",
    mf_regulariser="mean",
    stale_clean_term=True,
    drop_last_batch=True,
)

FIDELITIES = {"corrected": CORRECTED, "paper": PAPER}
