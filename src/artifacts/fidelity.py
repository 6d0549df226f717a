"""Fidelity of the pipeline: corrected, or as published."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Fidelity:
    """Choices in which the published code and the corrected pipeline differ.

    Code reads the choice that it needs (``fidelity.quantise``) and never the name of the mode, so that
    each difference is one field here and one line in docs/reference.md.
    """

    name: Literal["corrected", "paper"]
    budget_space: Literal["pixel", "normalised"]
    """Space in which eps is measured: pixels in [0, 1], or pixels after mean and std, unclipped."""
    quantise: Literal["round", "truncate"]
    """Conversion of attacked pixels to 8-bit grey levels."""
    origin_classes: Literal["same", "undefended"]
    """Extractor whose clean classes select the images to attack: the attacked or the undefended one."""
    base_features: Literal["same", "undefended"]
    """Extractor whose clean features fill the rows of images that were not attacked."""
    regulariser: Literal["squared", "signed"]
    """VBPR and AMR: squared L2 norms, or the sums of signed entries of the published code."""
    mf_regulariser: Literal["squared", "mean"]
    """BPR-MF and AMF: squared L2 norms of a batch's rows, or the mean of their squared entries."""
    stale_clean_term: bool
    """AMF-full: True if the clean term of the loss is computed under the perturbation of the previous
    batch, as in a published notebook."""
    fixed_acf_users: bool
    """ACF: True if users' rows are constants of the loss, and features are read as extracted."""
    drop_last_batch: bool
    """True if each recommender epoch leaves out the last, incomplete batch."""


CORRECTED = Fidelity(
    name="corrected",
    budget_space="pixel",
    quantise="round",
    origin_classes="same",
    base_features="same",
    regulariser="squared",
    mf_regulariser="squared",
    stale_clean_term=False,
    fixed_acf_users=False,
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
    fixed_acf_users=True,
    drop_last_batch=True,
)

FIDELITIES = {"corrected": CORRECTED, "paper": PAPER}
