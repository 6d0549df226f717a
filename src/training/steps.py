"""One step of training: perturb, forward, descend."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.extractors.extractor import Extractor
from src.training.adversaries import Free, Scene
from src.training.distribution import average_gradients, mean_over_processes
from src.training.hardness import INITIAL_LOSS
from src.training.recipes import Recipe
from src.training.views import Views


@dataclass
class State:
    """What one step leaves to the next, beside weights and optimisers."""

    learnt: dict[str, nn.Parameter] = field(default_factory=dict)
    """What the loss learns beside the network, by name."""
    last_loss: float = INITIAL_LOSS
    """The loss of the step before, without the recipe's terms; the mean over all processes."""
    perturbation: Tensor | None = None
    """Of free adversarial training, in [0, 1] pixels, of the shape of its images."""


def train_step(
    extractor: Extractor,
    optimizers: Sequence[torch.optim.Optimizer],
    recipe: Recipe,
    state: State,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> float:
    """One step on ``images`` (m, C, H, W) in [0, 1] and ``labels`` (m,) int64; the loss before it.

    The loss is that of all processes, without the recipe's terms. An adversary differentiates pixels
    only, in evaluation mode; the weight gradients are those of the one forward that the loss reads.
    """
    set_mode(extractor, recipe.batch_norm)
    views = perturbed_views(extractor, recipe, state, images, labels, generator)
    loss = recipe.loss(views)
    total = sum((weight * term(views) for weight, term in recipe.terms), start=loss)
    for optimizer in optimizers:
        optimizer.zero_grad()
    total.backward()
    if isinstance(recipe.adversary, Free):
        _carry_over(recipe.adversary, state, views)
    average_gradients([*extractor.parameters(), *state.learnt.values()])
    for optimizer in optimizers:
        optimizer.step()
    state.last_loss = mean_over_processes(loss.detach()).item()
    return state.last_loss


def perturbed_views(
    extractor: Extractor,
    recipe: Recipe,
    state: State,
    images: Tensor,
    labels: Tensor,
    generator: torch.Generator,
) -> Views:
    """The batch and what the recipe's adversary makes of it; nothing is forwarded for training yet."""
    metric, adversary = recipe.loss.metric, recipe.adversary
    scene = Scene(extractor, images, labels, recipe.miner, metric, state.last_loss, generator)
    points, mined = None, None
    if isinstance(adversary, Free):
        state.perturbation, points, mined = adversary.perturb(scene, state.perturbation)
    elif adversary is not None:
        points, mined = adversary.perturb(scene)
    return Views(
        extractor,
        images,
        labels,
        metric,
        recipe.miner,
        generator,
        trains_on_benign=recipe.loss_on == "benign",
        points=points,
        mined=mined,
        learnt=state.learnt,
    )


def set_mode(extractor: Extractor, batch_norm: str) -> None:
    """Training mode; with ``frozen`` batch norms keep to the statistics that they have."""
    extractor.train()
    if batch_norm == "frozen":
        for module in extractor.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


@torch.no_grad()
def _carry_over(adversary: Free, state: State, views: Views) -> None:
    state.perturbation = adversary.ascend(state.perturbation, views.points.grad)
    if adversary.perturbs == "apn":
        triplets = views.perturbed_triplets.of(views.perturbed.features)
        state.perturbation = adversary.let_go(state.perturbation, triplets, views.metric)
