"""The training loop: mini-batches, replays, one SGD step each; continues after a stop."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from src.extractors.checkpoints import write_plain
from src.extractors.extractor import Extractor
from src.training.adversaries import Adversary
from src.training.pictures import Pictures, augment, to_images
from src.training.recipes import Loss, Recipe

_WARM_UP = 0.2
"""Part of the steps in which the learning rate rises; then it falls along a cosine to 0."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train."""

    epochs: int
    """Passes over the pictures, replays included."""
    batch_size: int = 64
    lr: float = 0.05
    """Largest learning rate of SGD with Nesterov momentum."""
    momentum: float = 0.9
    weight_decay: float = 5e-4
    seed: int = 0


def train(
    extractor: Extractor,
    pictures: Pictures,
    recipe: Recipe,
    schedule: Schedule,
    eps: float,
    state_file: Path,
) -> None:
    """Train ``extractor`` in place on its device; it is left in evaluation mode.

    ``eps`` is the adversary's budget in [0, 1] pixels. After each epoch everything that training
    needs to continue goes to ``state_file``; where that file exists, training takes it up, and its
    result on a CPU is the same as without the stop. The caller removes the file.
    """
    extractor.train().requires_grad_(True).to(memory_format=torch.channels_last)
    adversary = recipe.adversary(eps)
    optimizer = torch.optim.SGD(
        extractor.network.parameters(),
        schedule.lr,
        momentum=schedule.momentum,
        weight_decay=schedule.weight_decay,
        nesterov=True,
    )
    batch_size = min(schedule.batch_size, len(pictures))
    n_batches = len(pictures) // batch_size  # batch norm wants no small last batch
    epochs = math.ceil(schedule.epochs / recipe.replays)
    n_steps = epochs * n_batches * recipe.replays
    first_epoch = _restore(state_file, extractor.network, optimizer, adversary)
    step = first_epoch * n_batches * recipe.replays
    with tqdm(total=n_steps, initial=step, desc="training", unit="step") as bar:
        for epoch in range(first_epoch, epochs):
            # Each epoch draws from its own seed, so there is no generator state to keep.
            torch.manual_seed(1_000_003 * schedule.seed + epoch)
            order = torch.randperm(len(pictures))[: n_batches * batch_size]
            for rows in order.split(batch_size):
                images = to_images(augment(pictures.pixels[rows]), extractor.device)
                labels = pictures.categories[rows].to(extractor.device)
                for _ in range(recipe.replays):
                    for group in optimizer.param_groups:
                        group["lr"] = schedule.lr * _lr_factor((step + 1) / n_steps)
                    loss = train_step(extractor, optimizer, adversary, recipe.loss, images, labels)
                    step += 1
                    bar.update()
            bar.set_postfix(epoch=epoch + 1, loss=f"{loss:.3f}")
            _save(state_file, epoch + 1, extractor.network, optimizer, adversary)
    extractor.eval().requires_grad_(False)


def train_step(
    extractor: Extractor,
    optimizer: torch.optim.Optimizer,
    adversary: Adversary,
    loss_of: Loss,
    images: Tensor,
    labels: Tensor,
) -> float:
    """Perturb, descend, let the adversary see the gradient; returns the loss before the step."""
    perturbed = adversary.perturb(images)
    loss = loss_of(extractor(perturbed), labels)
    optimizer.zero_grad()
    loss.backward()
    adversary.observe(perturbed.grad)
    optimizer.step()
    return loss.item()


def _lr_factor(progress: float) -> float:
    """Factor of the largest learning rate when a share ``progress`` of the steps is done."""
    if progress < _WARM_UP:
        return progress / _WARM_UP
    return 0.5 * (1 + math.cos(math.pi * (progress - _WARM_UP) / (1 - _WARM_UP)))


def _save(
    path: Path,
    epochs_done: int,
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    adversary: Adversary,
) -> None:
    state: dict[str, Any] = {
        "epochs_done": epochs_done,
        "network": network.state_dict(),
        "optimizer": optimizer.state_dict(),
        "adversary": adversary.state(),
    }
    write_plain(path, state)


def _restore(
    path: Path, network: nn.Module, optimizer: torch.optim.Optimizer, adversary: Adversary
) -> int:
    """Take up what ``_save`` left; returns how many epochs are done."""
    if not path.exists():
        return 0
    device = next(network.parameters()).device
    state = torch.load(path, map_location=device, weights_only=True)
    network.load_state_dict(state["network"])
    optimizer.load_state_dict(state["optimizer"])
    adversary.restore(state["adversary"])
    return state["epochs_done"]
