"""Adversaries, as data: which training images they perturb, towards what, and how far."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from src.attacks.freezing import frozen
from src.attacks.pgd import pgd
from src.extractors.attention import Watched, overlap
from src.extractors.extractor import Extractor, Prediction
from src.training.attention import TOP_CELLS, Cells
from src.training.hardness import Destination, hardness
from src.training.miners import Miner, Triplets
from src.training.objectives import INDEPENDENT, Inner, Objective
from src.training.views import MapReader

Perturbs = Literal["all", "pn", "apn"]
"""All images of the batch, or positives and negatives of its triplets, or anchors as well."""

Start = Callable[[Tensor, float, torch.Generator], Tensor]
"""Of images, the budget's radius and a source of random numbers: where the descent begins."""


@dataclass(frozen=True)
class Budget:
    """An L-inf ball around each image, in [0, 1] pixels, and the walk inside it."""

    eps: float
    step: float
    steps: int


def near_start(images: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Close to the images, where a divergence from them has a gradient (TRADES)."""
    noise = torch.randn(images.shape, generator=generator, device=generator.device)
    return images + (1e-3 * noise).to(images.device).clamp(-eps, eps)


@dataclass(frozen=True)
class Scene:
    """A batch as an adversary finds it."""

    extractor: Extractor
    images: Tensor
    """(m, C, H, W) float in [0, 1]."""
    labels: Tensor
    """(m,) int64."""
    miner: Miner
    metric: str
    last_loss: float
    """The loss of the step before."""
    generator: torch.Generator
    watched: Watched | None = None
    """The extractor whose maps the recipe reads, by ``read_map``."""
    read_map: MapReader | None = None
    notes: dict[str, Tensor] = field(default_factory=dict)
    """What the adversary notes for the log, by name, as scalars."""

    @torch.no_grad()
    def predict(self) -> Prediction:
        """Of the benign images."""
        return self.extractor(self.images)

    def mine(self, benign: Prediction) -> Triplets:
        return self.miner(benign.features, self.labels, self.generator)


@dataclass(frozen=True)
class Gate:
    """Strong samples: who still has the attention of the benign image is perturbed further.

    Wu et al. 2018, whose published code freezes by mistake what should go on.
    """

    overlap: float = 0.5
    """IoU of the attended cells, benign and perturbed, above which an image goes on."""
    steps: int = 4
    """At most so many more."""
    cells: Cells = TOP_CELLS


@dataclass(frozen=True)
class Adversary:
    """Solves the inner problem anew for every batch, by projected gradient descent."""

    perturbs: Perturbs
    objective: Objective
    destination: Destination | None = None
    """Which hardness the triplets are to have; None where the objective does not ask."""
    start: Start | None = None
    """Of all images; None: the benign ones, from which triplets begin in any case."""
    budget: Budget = Budget(8 / 255, 1 / 255, 8)
    leap: float | None = None
    """A single step of this share of the radius in place of the budget's walk."""
    gate: Gate | None = None

    @property
    def steps(self) -> int:
        """Of the walk, without those that a gate may add."""
        return self.budget.steps if self.leap is None else 1

    @property
    def step(self) -> float:
        return self.budget.step if self.leap is None else self.leap * self.budget.eps

    def perturb(self, scene: Scene) -> tuple[Tensor, Triplets | None]:
        """The images to train on and their triplets: ``points`` and ``mined`` of ``views.Views``.

        In evaluation mode and without weight gradients; triplets are mined from benign embeddings.
        Anchors that are not perturbed stand in front as they are.
        """
        with frozen(scene.extractor):
            if self.perturbs == "all":
                return self._perturb_all(scene), None
            return self._perturb_triplets(scene)

    def _perturb_all(self, scene: Scene) -> Tensor:
        benign = cache(scene.predict)
        everything = torch.arange(len(scene.images), device=scene.images.device)
        eps = self.budget.eps
        points = pgd(
            scene.images,
            lambda points: self.objective(
                self._inner(scene, benign, scene.extractor(points), everything)
            ),
            eps,
            self.step,
            self.steps,
            start=self.start and self.start(scene.images, eps, scene.generator),
        )
        return points if self.gate is None else self._insist(scene, benign, points)

    @staticmethod
    def _inner(
        scene: Scene, benign: Callable[[], Prediction], points: Prediction, rows: Tensor
    ) -> Inner:
        """Of the images ``rows`` of the batch, perturbed to what gave ``points``."""
        return Inner(
            points,
            benign=lambda: Prediction(benign().logits[rows], benign().features[rows]),
            labels=scene.labels[rows],
            anchors=None,
            metric=scene.metric,
            wanted=None,
            generator=scene.generator,
        )

    def _insist(self, scene: Scene, benign: Callable[[], Prediction], points: Tensor) -> Tensor:
        """Further steps of the images whose attention has not moved; one forward for map and step.

        Notes the share of images that take a further step as ``selected``.
        """

        def attended_cells(attended: Prediction, rows: Tensor) -> Tensor:
            return self.gate.cells.of(
                scene.read_map(scene.watched, attended, scene.labels[rows]).detach()
            )

        def look(points: Tensor) -> Tensor:
            attended = scene.watched(points)
            before_and_now = clean[moving], attended_cells(attended, moving)
            stay.append(overlap(*before_and_now) > self.gate.overlap)
            return self.objective(self._inner(scene, benign, attended, moving))

        moving = torch.arange(len(points), device=points.device)
        clean = attended_cells(scene.watched(scene.images.clone().requires_grad_()), moving)
        for _ in range(self.gate.steps):
            stay: list[Tensor] = []
            images, before = scene.images[moving], points[moving]
            stepped = pgd(images, look, self.budget.eps, self.step, 1, start=before)
            moving, stepped = moving[stay[0]], stepped[stay[0]]
            points[moving] = stepped
            scene.notes.setdefault("selected", stay[0].float().mean())
            if not len(moving):
                break
        return points

    def _perturb_triplets(self, scene: Scene) -> tuple[Tensor, Triplets]:
        benign = scene.predict()
        triplets = scene.mine(benign)
        wanted = self.destination and self.destination(
            benign.features, scene.labels, scene.last_loss, scene.generator
        )
        anchors_stay = self.perturbs == "pn"
        rows = torch.stack(triplets[1:] if anchors_stay else triplets)

        def objective(kept: Tensor) -> Callable[[Tensor], Tensor]:
            """Of the triplets at the positions ``kept``."""
            perturbed = rows[:, kept].flatten()
            inner = partial(
                Inner,
                benign=lambda: Prediction(benign.logits[perturbed], benign.features[perturbed]),
                labels=scene.labels[perturbed],
                anchors=benign.features[triplets.anchor[kept]] if anchors_stay else None,
                metric=scene.metric,
                wanted=None if wanted is None else wanted[kept],
                generator=scene.generator,
            )
            return lambda points: self.objective(inner(scene.extractor(points)))

        points = self._descend(scene.images[rows], objective)
        if anchors_stay:
            points = torch.cat([scene.images[triplets.anchor], points])
        return points, triplets

    def _descend(
        self, images: Tensor, objective: Callable[[Tensor], Callable[[Tensor], Tensor]]
    ) -> Tensor:
        """Images (2 or 3, t, ...) of t triplets -> all of them in a row, perturbed.

        Triplets that have come to rest, because they are as hard as they should be, take no further
        part, where the objective allows that.
        """
        eps, step, steps = self.budget.eps, self.budget.step, self.budget.steps
        moving = torch.arange(images.shape[1], device=images.device)
        if self.objective not in INDEPENDENT:
            return pgd(images.flatten(0, 1), objective(moving), eps, step, steps)
        points = images.clone()
        for _ in range(steps):
            clean, before = images[:, moving].flatten(0, 1), points[:, moving]
            after = pgd(clean, objective(moving), eps, step, 1, start=before.flatten(0, 1))
            after = after.view_as(before)
            points[:, moving] = after
            moving = moving[(after != before).flatten(2).any(dim=2).any(dim=0)]
            if not len(moving):
                break
        return points.flatten(0, 1)


@dataclass(frozen=True)
class Free:
    """Free adversarial training (Shafahi et al. 2019, algorithm 1).

    One perturbation is carried over from replay to replay and from mini-batch to mini-batch. Each
    backward pass serves twice: the network descends, and the perturbation ascends by one step, then
    returns to the L-inf ball.
    """

    perturbs: Literal["all", "apn"]
    replays: int = 4
    """Steps on each mini-batch; there are so many times fewer epochs."""
    release: float | None = None
    """The hardness beyond which a triplet is hard enough, and its perturbation begins at 0 again."""
    budget: Budget = Budget(4 / 255, 4 / 255, 1)

    def perturb(
        self, scene: Scene, perturbation: Tensor | None
    ) -> tuple[Tensor, Tensor, Triplets | None]:
        """(the carried perturbation, ``points`` with a gradient to come, ``mined``)."""
        images, mined = scene.images, None
        if self.perturbs == "apn":
            with frozen(scene.extractor):
                mined = scene.mine(scene.predict())
            images = images[torch.cat(mined)]
        if perturbation is None or perturbation.shape != images.shape:
            perturbation = torch.zeros_like(images)
        # The gradient is taken after the clamp: in front of it, white and black pixels had none.
        return perturbation, (images + perturbation).clamp(0, 1).requires_grad_(), mined

    def ascend(self, perturbation: Tensor, gradient: Tensor) -> Tensor:
        """The perturbation one step up the loss's ``gradient`` with respect to the points."""
        eps = self.budget.eps
        return (perturbation + self.budget.step * gradient.sign()).clamp(-eps, eps)

    def let_go(self, perturbation: Tensor, triplets: Sequence[Tensor], metric: str) -> Tensor:
        """``perturbation`` without that of triplets, embeddings (a', p', n'), that are hard enough."""
        if self.release is None:
            return perturbation
        hard_enough = (hardness(*triplets, metric) > self.release).repeat(3)
        return perturbation * ~hard_enough[:, None, None, None]
