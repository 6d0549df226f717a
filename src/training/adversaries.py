"""Adversaries as data: the training images that they perturb, their objectives and budgets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from typing import Literal

import torch
from torch import Tensor

from src.attacks.attack import LEVELS, Attack
from src.attacks.freezing import frozen
from src.attacks.goals import ClassGoal
from src.attacks.pgd import pgd
from src.attacks.registry import PRESETS, SteppedAttack, attack_named
from src.attacks.victim import ExtractorVictim
from src.extractors.attention import Watched, overlap
from src.extractors.device import generator_on
from src.extractors.extractor import Extractor, Prediction
from src.training.attention import TOP_CELLS, Cells
from src.training.hardness import Destination, hardness
from src.training.miners import Miner, Triplets
from src.training.objectives import INDEPENDENT, Inner, Objective
from src.training.original import Departure
from src.training.views import MapReader

Perturbs = Literal["all", "pn", "apn"]
"""All images of the batch, or positives and negatives of its triplets, or anchors as well."""

Start = Callable[[Tensor, float, torch.Generator], Tensor]
"""Function of images, the budget's radius and a generator that returns the first points of a descent."""


@dataclass(frozen=True)
class AdversaryBudget:
    """L-inf ball around each image, in [0, 1] pixels, and the steps inside it."""

    eps: float
    step: float
    steps: int


def near_start(images: Tensor, eps: float, generator: torch.Generator) -> Tensor:
    """Return points close to the images, where a divergence from them has a gradient (TRADES)."""
    draws = generator_on(images.device, generator)
    noise = torch.randn(images.shape, generator=draws, device=images.device)
    return images + (1e-3 * noise).clamp(-eps, eps)


@dataclass(frozen=True)
class AdversaryBatch:
    """Batch that an adversary perturbs, and the network that it fools."""

    extractor: Extractor
    images: Tensor
    """Images (m, C, H, W), float in [0, 1]."""
    classes: Tensor
    """Class numbers (m,) int64."""
    miner: Miner
    metric: str
    last_loss: float | Tensor
    """Loss of the step before; a scalar on the device after the first step."""
    generator: torch.Generator
    watched: Watched | None = None
    """Extractor whose maps the recipe reads by ``read_map``."""
    read_map: MapReader | None = None
    notes: dict[str, Tensor] = field(default_factory=dict)
    """Scalars by name that the adversary notes for the log."""
    departure: Departure | None = None
    """Differences of features from those before training; None if the recipe reads none."""

    @torch.no_grad()
    def predict(self) -> Prediction:
        """Return the prediction for the benign images."""
        return self.extractor(self.images)

    def mine(self, benign: Prediction) -> Triplets:
        return self.miner(benign.features, self.classes, self.generator)


@dataclass(frozen=True)
class Gate:
    """Gate of strong samples: images that keep the attention of the benign image are perturbed further.

    The code of Wu et al. 2018 freezes these images by mistake.
    """

    overlap: float = 0.5
    """IoU of the attended cells, benign and perturbed, above which an image is perturbed further."""
    steps: int = 4
    """Largest number of further steps."""
    cells: Cells = TOP_CELLS


@dataclass(frozen=True)
class Adversary:
    """Adversary that solves the inner problem of every batch by projected gradient descent."""

    perturbs: Perturbs
    objective: Objective
    destination: Destination | None = None
    """Hardness that the triplets shall have; None if the objective needs none."""
    start: Start | None = None
    """First points of all images; None for the benign images, from which triplets always begin."""
    budget: AdversaryBudget = AdversaryBudget(8 / 255, 1 / 255, 8)
    leap: float | None = None
    """Share of the radius that a single step takes instead of the budget's steps; None for these."""
    gate: Gate | None = None

    @property
    def steps(self) -> int:
        """Number of steps, without those that a gate may add."""
        return self.budget.steps if self.leap is None else 1

    @property
    def step(self) -> float:
        return self.budget.step if self.leap is None else self.leap * self.budget.eps

    def perturb(self, batch: AdversaryBatch) -> tuple[Tensor, Triplets | None]:
        """Return the images to train on and their triplets: ``points`` and ``mined`` of ``views.Views``.

        The network is in evaluation mode and has no weight gradients; triplets are mined from benign
        embeddings. Anchors that are not perturbed come first, unchanged.
        """
        with frozen(batch.extractor):
            if self.perturbs == "all":
                return self._perturb_all(batch), None
            return self._perturb_triplets(batch)

    def _perturb_all(self, batch: AdversaryBatch) -> Tensor:
        benign = cache(batch.predict)
        points = self._attack(batch, benign)
        return points if self.gate is None else self._repeat_unmoved(batch, benign, points)

    def _attack(self, batch: AdversaryBatch, benign: Callable[[], Prediction]) -> Tensor:
        """Return all images, perturbed once."""
        everything = torch.arange(len(batch.images), device=batch.images.device)
        eps = self.budget.eps
        return pgd(
            batch.images,
            lambda points: self.objective(
                self._inner(batch, benign, batch.extractor(points), everything)
            ),
            eps,
            self.step,
            self.steps,
            start=self.start and self.start(batch.images, eps, batch.generator),
        )

    @staticmethod
    def _inner(
        batch: AdversaryBatch, benign: Callable[[], Prediction], points: Prediction, rows: Tensor
    ) -> Inner:
        """Return the inner problem of the images ``rows``, whose perturbed prediction is ``points``."""
        return Inner(
            points,
            benign=lambda: Prediction(benign().logits[rows], benign().features[rows]),
            classes=batch.classes[rows],
            anchors=None,
            metric=batch.metric,
            wanted=None,
            generator=batch.generator,
            departure=batch.departure,
        )

    def _repeat_unmoved(
        self, batch: AdversaryBatch, benign: Callable[[], Prediction], points: Tensor
    ) -> Tensor:
        """Take further steps on images whose attention has not moved, with one forward for map and step.

        The share of images that take a further step is noted as ``selected``.
        """

        def attended_cells(attended: Prediction, rows: Tensor) -> Tensor:
            return self.gate.cells.of(
                batch.read_map(batch.watched, attended, batch.classes[rows]).detach()
            )

        def look(points: Tensor) -> Tensor:
            attended = batch.watched(points)
            before_and_now = clean[moving], attended_cells(attended, moving)
            stay.append(overlap(*before_and_now) > self.gate.overlap)
            return self.objective(self._inner(batch, benign, attended, moving))

        moving = torch.arange(len(points), device=points.device)
        clean = attended_cells(batch.watched(batch.images.clone().requires_grad_()), moving)
        for _ in range(self.gate.steps):
            stay: list[Tensor] = []
            images, before = batch.images[moving], points[moving]
            stepped = pgd(images, look, self.budget.eps, self.step, 1, start=before)
            moving, stepped = moving[stay[0]], stepped[stay[0]]
            points[moving] = stepped
            batch.notes.setdefault("selected", stay[0].float().mean())
            if not len(moving):
                break
        return points

    def _perturb_triplets(self, batch: AdversaryBatch) -> tuple[Tensor, Triplets]:
        benign = batch.predict()
        triplets = batch.mine(benign)
        wanted = self.destination and self.destination(
            benign.features, batch.classes, batch.last_loss, batch.generator
        )
        anchors_stay = self.perturbs == "pn"
        rows = torch.stack(triplets[1:] if anchors_stay else triplets)

        def objective(kept: Tensor) -> Callable[[Tensor], Tensor]:
            """Return the objective of the triplets at the positions ``kept``."""
            perturbed = rows[:, kept].flatten()
            inner = partial(
                Inner,
                benign=lambda: Prediction(benign.logits[perturbed], benign.features[perturbed]),
                classes=batch.classes[perturbed],
                anchors=benign.features[triplets.anchor[kept]] if anchors_stay else None,
                metric=batch.metric,
                wanted=None if wanted is None else wanted[kept],
                generator=batch.generator,
            )
            return lambda points: self.objective(inner(batch.extractor(points)))

        points = self._descend(batch.images[rows], objective)
        if anchors_stay:
            points = torch.cat([batch.images[triplets.anchor], points])
        return points, triplets

    def _descend(
        self, images: Tensor, objective: Callable[[Tensor], Callable[[Tensor], Tensor]]
    ) -> Tensor:
        """Perturb images (2 or 3, t, ...) of t triplets and return them in a row.

        On the CPU, triplets that are as hard as they should be are left out of further steps, if the
        objective allows it. On a GPU they take these steps and stay where they are, since leaving them
        out would wait for the device in every step.
        """
        eps, step, steps = self.budget.eps, self.budget.step, self.budget.steps
        moving = torch.arange(images.shape[1], device=images.device)
        if self.objective not in INDEPENDENT or not images.is_cpu:
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
class AttackAdversary(Adversary):
    """Adversary that perturbs all images by an attack of ``registry.ATTACKS`` or ``PRESETS``, untargeted.

    An attack of ``ATTACKS`` by steps within a ball takes the steps of ``budget``; others take their own.
    """

    attack: str = "pgd"

    @property
    def steps(self) -> int:
        return self._built.passes

    @property
    def _built(self) -> Attack:
        attack = attack_named(self.attack, LEVELS * self.budget.eps)
        if isinstance(attack, SteppedAttack) and self.attack not in PRESETS:
            step = LEVELS * self.budget.step
            return replace(attack, eps_iter=step, nb_iter=self.budget.steps)
        return attack

    def _attack(self, batch: AdversaryBatch, benign: Callable[[], Prediction]) -> Tensor:
        seed = int(torch.randint(2**31, (), generator=batch.generator))
        images, goal = batch.images, ClassGoal(batch.classes, targeted=False)
        # Attacks draw from the global generator, whose state the caller needs unchanged.
        with torch.random.fork_rng([images.device] if images.is_cuda else []):
            torch.manual_seed(seed)
            return self._built(ExtractorVictim(batch.extractor), images, goal)


@dataclass(frozen=True)
class Free:
    """Free adversarial training (Shafahi et al. 2019, algorithm 1).

    A perturbation is carried over from replay to replay and from mini-batch to mini-batch. Each
    backward pass has two uses: the network descends, and the perturbation ascends by one step, then
    returns to the L-inf ball.
    """

    perturbs: Literal["all", "apn"]
    replays: int = 4
    """Number of steps on each mini-batch, by which the number of epochs is divided."""
    release: float | None = None
    """Hardness above which a triplet is hard enough, and its perturbation starts again from 0."""
    budget: AdversaryBudget = AdversaryBudget(4 / 255, 4 / 255, 1)

    def perturb(
        self, batch: AdversaryBatch, perturbation: Tensor | None
    ) -> tuple[Tensor, Tensor, Triplets | None]:
        """Return the carried perturbation, ``points`` that will get a gradient, and ``mined``."""
        images, mined = batch.images, None
        if self.perturbs == "apn":
            with frozen(batch.extractor):
                mined = batch.mine(batch.predict())
            images = images[torch.cat(mined)]
        if perturbation is None or perturbation.shape != images.shape:
            perturbation = torch.zeros_like(images)
        # The gradient is taken after the clamp, since before it white and black pixels have none.
        return perturbation, (images + perturbation).clamp(0, 1).requires_grad_(), mined

    def ascend(self, perturbation: Tensor, gradient: Tensor) -> Tensor:
        """Return the perturbation after one step up the loss's ``gradient`` by the points."""
        eps = self.budget.eps
        return (perturbation + self.budget.step * gradient.sign()).clamp(-eps, eps)

    def without_hard(self, perturbation: Tensor, triplets: Sequence[Tensor], metric: str) -> Tensor:
        """Set the ``perturbation`` of triplets (a', p', n') that are hard enough to 0."""
        if self.release is None:
            return perturbation
        hard_enough = (hardness(*triplets, metric) > self.release).repeat(3)
        return perturbation * ~hard_enough[:, None, None, None]
