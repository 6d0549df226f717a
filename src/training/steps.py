"""Step of training: perturbation, forward and descent."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from src.extractors.attention import Watched
from src.extractors.distribution import average_gradients, mean_over_processes
from src.extractors.extractor import Extractor
from src.training.adversaries import AdversaryBatch, Free
from src.training.hardness import INITIAL_LOSS
from src.training.losses import Denoising
from src.training.original import Original, Reading
from src.training.recipes import Recipe
from src.training.terms import Term
from src.training.views import Views


@dataclass
class State:
    """State that one step leaves to the next, beside weights and optimisers."""

    learnt: dict[str, nn.Parameter] = field(default_factory=dict)
    """Parameters of the loss by name."""
    last_loss: float | Tensor = INITIAL_LOSS
    """Loss of the step before, without the recipe's terms, as a scalar float64 on the device; the mean
    over all processes."""
    perturbation: Tensor | None = None
    """Perturbation of free adversarial training in [0, 1] pixels, of the shape of its images."""
    step: int = 0
    """Number of steps that were taken."""
    n_steps: int = 1
    """Number of steps of the whole training."""
    watched: Watched | None = None
    """Extractor whose maps the recipe reads; None if it reads none."""
    teacher: Watched | None = None
    """Extractor before training, frozen; None if the recipe has no teacher."""
    original: Original | None = None
    """Network before training that the loss compares with; None if it compares with none."""
    seen: list[dict[str, Tensor]] = field(default_factory=list)
    """Scalars by name, on the device, that each step of this epoch noted."""

    @classmethod
    def of(
        cls, recipe: Recipe, extractor: Extractor, n_steps: int, reading: Reading | None = None
    ) -> "State":
        """Return the state before the first step; ``reading`` weighs differences of features."""
        state = cls(recipe.loss.parameters(extractor.device), n_steps=n_steps)
        if recipe.fine_tunes:
            state.original = Original.of(extractor, reading)
        if recipe.attention is not None:
            state.watched = recipe.attention.watch(extractor)
        if recipe.has_teacher:
            first = copy.deepcopy(extractor).eval().requires_grad_(False)
            state.teacher = recipe.attention.watch(first)
        return state


def train_step(
    extractor: Extractor,
    optimizers: Sequence[torch.optim.Optimizer],
    recipe: Recipe,
    state: State,
    images: Tensor,
    classes: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Take a step on ``images`` (m, C, H, W) in [0, 1] of ``classes`` (m,); return the loss before it.

    The loss, a scalar float64 on the device, is the mean over all processes, without the recipe's terms.
    The step waits for nothing that the device computes. An adversary differentiates
    pixels only, in evaluation mode; gradients of weights come from the one forward that the loss reads.
    """
    set_mode(extractor, recipe.batch_norm)
    if recipe.fine_tunes:
        extractor.network.eval()  # without dropout, as it is compared with itself
    views = perturbed_views(extractor, recipe, state, images, classes, generator)
    loss = recipe.loss(views)
    share = recipe.share_of_terms(state.step / state.n_steps)
    terms = [(weight, term, term(views)) for weight, term in recipe.terms]
    total = sum((share * weight * value for weight, _, value in terms), start=loss)
    for optimizer in optimizers:
        optimizer.zero_grad()
    total.backward()
    if isinstance(recipe.adversary, Free):
        _carry_over(recipe.adversary, state, views)
    average_gradients([*extractor.parameters(), *state.learnt.values()])
    if recipe.clip_norm is not None:
        nn.utils.clip_grad_norm_(extractor.parameters(), recipe.clip_norm)
    for optimizer in optimizers:
        optimizer.step()
    state.seen.append(
        {"loss": loss.detach()}
        | {name_of(term): value.detach() for _, term, value in terms}
        | views.noted()
    )
    state.step += 1
    state.last_loss = mean_over_processes(loss.detach()).double()
    return state.last_loss


def name_of(term: Term) -> str:
    """Return the name of a term: ``prediction_shift``, ``preserve``."""
    return getattr(term, "__name__", type(term).__name__).lower()


def perturbed_views(
    extractor: Extractor,
    recipe: Recipe,
    state: State,
    images: Tensor,
    classes: Tensor,
    generator: torch.Generator,
) -> Views:
    """Return the batch with its perturbed images, before any forward of the training."""
    metric, adversary = recipe.loss.metric, recipe.adversary
    read_map = recipe.attention and recipe.attention.maps
    departure = state.original and state.original.departure(images)
    without_denoiser = isinstance(recipe.loss, Denoising) and recipe.loss.attacked == "network"
    batch = AdversaryBatch(
        state.original.extractor if without_denoiser else extractor,
        images,
        classes,
        recipe.miner,
        metric,
        state.last_loss,
        generator,
        watched=state.watched,
        read_map=read_map,
        departure=departure,
    )
    points, mined = None, None
    if isinstance(adversary, Free):
        state.perturbation, points, mined = adversary.perturb(batch, state.perturbation)
    elif adversary is not None:
        points, mined = adversary.perturb(batch)
    return Views(
        state.watched or extractor,
        images,
        classes,
        metric,
        recipe.miner,
        generator,
        trains_on_benign=recipe.loss_on == "benign",
        points=points,
        mined=mined,
        learnt=state.learnt,
        together=recipe.together,
        read_map=read_map,
        teacher=state.teacher,
        step=state.step,
        notes=batch.notes,
        departure=departure,
    )


def set_mode(extractor: Extractor, batch_norm: str) -> None:
    """Set training mode; with ``frozen`` batch norms keep the statistics that they have."""
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
        state.perturbation = adversary.without_hard(state.perturbation, triplets, views.metric)
