"""Recommenders of the library Cornac (Apache-2.0), which fits them; here they are matrices.

``--model cornac:VBPR`` is the row ``CornacVBPR``. Cornac is needed to fit alone, with its own default
options. Features are divided by their largest entry, as every recommender of tables reads them.
"""

import contextlib
import importlib.util
import io
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from src.artifacts.errors import UserError
from src.recommenders.data import TrainingData
from src.recommenders.recommender import Factors, Recommender, require_features
from src.recommenders.weights import scaled

if TYPE_CHECKING:
    from cornac.data import Dataset

PREFIX = "cornac:"
VERSION = "3.0.1"
"""Version of Cornac whose scores were compared with the matrices."""
CHECKED_USERS = 8
TOLERANCE = 1e-4
"""Largest difference between Cornac's scores and the matrices', in ranges of a user's scores."""
Matrices = tuple[np.ndarray, ...]


@dataclass(frozen=True)
class CornacRecommender(Recommender):
    """Recommender whose score is the product of a user's and an item's row."""

    users: np.ndarray
    """Rows (users, d) float32."""
    items: np.ndarray
    """Rows (items, d) float32; in visual recommenders their part that no image changes."""
    framework: ClassVar = "torch"
    learner: ClassVar[str]
    """Name of the class in ``cornac.models``."""
    learns_ratings: ClassVar[bool] = False
    """True if it fits ratings: of each training pair 1, and of one random other item of the user 0."""

    @classmethod
    def fit(cls, data: TrainingData, seed: int) -> Self:
        """Fit in this process; ``UserError`` if Cornac is absent or scores otherwise than expected."""
        require_cornac(cls.learner)
        model = _fitted(cls, data, seed)
        matrices = [np.asarray(of, np.float32) for of in cls.matrices(model)]
        fitted = cls(*matrices, *cls.constants(data))
        _require_equal_scores(cls.learner, model, fitted.factors(data.features))
        return fitted

    @staticmethod
    def matrices(model: Any) -> Matrices:
        """Return the matrices of a fitted recommender of Cornac, in the order of the fields."""
        return model.get_user_vectors(), model.get_item_vectors()

    @staticmethod
    def constants(data: TrainingData) -> Matrices:
        """Return the fields that stand after the matrices."""
        del data
        return ()

    def factors(self, features: np.ndarray | None) -> Factors:
        return self.users, self.items


@dataclass(frozen=True)
class CornacVisual(CornacRecommender):
    """Recommender with the score users . items + visual_users . (f E), f the scaled features."""

    visual_users: np.ndarray
    """Rows (users, v) float32."""
    embedding: np.ndarray
    """Matrix E (features, v) float32."""
    scale: np.ndarray
    """Divisor of features, ()."""
    reads_images: ClassVar = True

    @staticmethod
    @abstractmethod
    def matrices(model: Any) -> Matrices: ...

    @staticmethod
    def constants(data: TrainingData) -> Matrices:
        return (np.float64(data.scale),)

    def factors(self, features: np.ndarray | None) -> Factors:
        features = require_features(features, len(self.items), len(self.embedding))
        projected = scaled(features, self.scale) @ self.embedding
        return np.hstack([self.users, self.visual_users]), np.hstack([self.items, projected])

    def slopes(self, users: np.ndarray | slice = slice(None)) -> np.ndarray:
        return scaled(self.visual_users[users] @ self.embedding.T, self.scale)


@dataclass(frozen=True)
class CornacVBPR(CornacVisual):
    """VBPR with all its biases (He and McAuley, AAAI 2016)."""

    learner: ClassVar = "VBPR"

    @staticmethod
    def matrices(model: Any) -> Matrices:
        return (
            _with_ones(model.gamma_user),
            np.column_stack([model.gamma_item, model.beta_item]),
            _with_ones(model.theta_user),
            np.column_stack([model.emb_matrix, model.beta_prime]),
        )


@dataclass(frozen=True)
class CornacAMR(CornacVisual):
    """AMR (Tang et al., TKDE 2020), trained against perturbations from its first epoch."""

    learner: ClassVar = "AMR"

    @staticmethod
    def matrices(model: Any) -> Matrices:
        return model.gamma_user, model.gamma_item, model.gamma_user, model.emb_matrix


@dataclass(frozen=True)
class CornacVMF(CornacVisual):
    """Visual matrix factorisation of ratings (Park et al., WWW 2017)."""

    learner: ClassVar = "VMF"
    learns_ratings: ClassVar = True

    @staticmethod
    def matrices(model: Any) -> Matrices:
        return model.U, model.V, model.P, model.E


@dataclass(frozen=True)
class CornacBPR(CornacRecommender):
    """BPR with item biases (Rendle et al., UAI 2009)."""

    learner: ClassVar = "BPR"


@dataclass(frozen=True)
class CornacHPF(CornacRecommender):
    """Hierarchical Poisson factorisation (Gopalan et al., UAI 2015)."""

    learner: ClassVar = "HPF"


FOLDED = {
    f"Cornac{kind.learner}": kind
    for kind in (CornacVBPR, CornacAMR, CornacVMF, CornacBPR, CornacHPF)
}
"""Rows of ``RECOMMENDERS``."""
REFUSED = {
    "CausalRec": "its score is a product of sigmoids, and each score that it gives changes its biases",
    "DMRL": "its score is an attention over images and texts of items",
    "VAECF": "its score is a network of all items that a user has",
    "NeuMF": "its score is a network of a user's and an item's row",
    "ItemKNN": "its score is a mean over neighbours",
    "UserKNN": "its score is a mean over neighbours",
}
"""Reasons why the scores of some others are no product of two matrices."""


def row_name(text: str) -> str:
    """Return the row of ``cornac:NAME``, and other text as it is.

    Raises ``UserError`` for a recommender of Cornac without a row, and if Cornac is absent.
    """
    if not text.startswith(PREFIX):
        return text
    name = text.removeprefix(PREFIX)
    known = ", ".join(PREFIX + kind.learner for kind in FOLDED.values())
    if name in REFUSED:
        raise UserError(
            f"{text} does not fold to two matrices: {REFUSED[name]}; choose from {known}"
        )
    if f"Cornac{name}" not in FOLDED:
        raise UserError(f"there is no {text} here: choose from {known}")
    require_cornac(name)
    return f"Cornac{name}"


def require_cornac(learner: str) -> None:
    """Raise ``UserError`` unless Cornac is installed."""
    if importlib.util.find_spec("cornac") is None:
        raise UserError(
            f"{PREFIX}{learner} needs cornac, an optional library: "
            "pip install -r requirements-extras.txt"
        )


def _fitted(kind: type[CornacRecommender], data: TrainingData, seed: int) -> Any:
    import torch
    from cornac import models

    print(f"{PREFIX}{kind.learner}: Cornac trains it with its default options", flush=True)
    model = getattr(models, kind.learner)(verbose=False, seed=seed)
    usual = torch.get_default_dtype()
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # some announce the end of their training
            return model.fit(_dataset(kind, data, seed))
    finally:
        torch.set_default_dtype(usual)  # the import of VMF makes it float64


def _dataset(kind: type[CornacRecommender], data: TrainingData, seed: int) -> "Dataset":
    """Return the training pairs, with ids as they are, so that cold users and items have rows too."""
    from cornac.data import Dataset, ImageModality

    users, items = data.interactions.train.T
    ratings = np.ones(len(users))
    if kind.learns_ratings:
        users, preferred, others = data.sampler.epoch(seed, 0).astype(np.int64)
        users, items = np.tile(users, 2), np.concatenate([preferred, others])
        ratings = np.repeat([1.0, 0.0], len(preferred))
    n_users, n_items = data.interactions.n_users, data.interactions.n_items
    ids = ({number: number for number in range(n)} for n in (n_users, n_items))
    pairs = Dataset(n_users, n_items, *ids, (users, items, ratings), seed=seed)
    if kind.reads_images:
        images = ImageModality(features=data.scaled_features, ids=list(range(n_items)))
        pairs.add_modalities(item_image=images.build(id_map=pairs.iid_map))
    return pairs


def _require_equal_scores(learner: str, model: Any, factors: Factors) -> None:
    """Raise ``UserError`` unless scores equal Cornac's, up to a constant of each user."""
    users, items = (of.astype(np.float64) for of in factors)
    for user in range(min(CHECKED_USERS, len(users))):
        wanted = np.asarray(model.score(user), np.float64)
        apart = np.ptp(wanted - items @ users[user])
        if not apart <= TOLERANCE * max(np.ptp(wanted), np.finfo(np.float32).tiny):
            raise UserError(
                f"{PREFIX}{learner}: this version of Cornac does not score by the matrices that "
                f"version {VERSION} learns: pip install -r requirements-extras.txt"
            )


def _with_ones(rows: np.ndarray) -> np.ndarray:
    """Append a column of ones, which takes an item's bias."""
    return np.column_stack([rows, np.ones(len(rows))])
