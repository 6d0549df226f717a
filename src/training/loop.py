"""Training loop over epochs, mini-batches and replays; a training that was stopped continues."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Literal

import torch
from torch import Tensor, nn

from src.artifacts.errors import UserError
from src.artifacts.progress import Pace, progress_bar
from src.cli import require_precision
from src.datasets.image_set import ImageSet
from src.extractors.checkpoints import load_state, write_plain
from src.extractors.distribution import n_processes, rank, wait_for_all
from src.extractors.extractor import Extractor, Precision, fast_layout
from src.extractors.feeding import send
from src.training.gradient_defence import defend_gradients
from src.training.losses import Denoising
from src.training.metric_losses import LEARNT_LR
from src.training.original import Reading
from src.training.pictures import SHIFTED, Augmentation, read_pixels, to_images
from src.training.recipes import Training, drawn, parts
from src.training.sharing import parse_gradient_defence
from src.training.steps import State, train_step

_NOISE = 500_009
"""Offset of the seed of noise from the seed of images."""
_WARM_UP = {"sgd": 0.2, "adamw": 0.07}
"""Share of the steps in which the learning rate rises, before it falls along a cosine to 0."""


@dataclass(frozen=True)
class Schedule:
    """Duration, batches, optimiser and augmentation of a training."""

    epochs: int
    """Passes over the pictures, replays included."""
    batch_size: int = 64
    """Number of images, or pairs of images, in a step."""
    lr: float = 0.05
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd"
    """SGD with Nesterov momentum or AdamW, whose rate rises to ``lr`` and falls, or Adam at ``lr``."""
    momentum: float = 0.9
    """Momentum of SGD."""
    weight_decay: float = 5e-4
    decays: Literal["all", "dense"] = "all"
    """Parameters with weight decay: all, or only weights of fully connected layers."""
    augmentation: Augmentation = SHIFTED
    seed: int = 0
    lr_drops: tuple[float, ...] | None = None
    """SGD: for each x the rate falls to a tenth after ``epochs // x`` passes; None for rise and fall."""
    gradient_defence: str | None = None
    """Name (``sharing.parse_gradient_defence``) of the defence of each mini-batch's gradient."""


def train(
    extractor: Extractor,
    pictures: ImageSet,
    training: Training,
    schedule: Schedule,
    state_file: Path,
    precision: Precision = "fp32",
    reading: Reading | None = None,
) -> list[dict[str, float]]:
    """Train ``extractor`` in place on its device, and leave it in evaluation mode and in fp32.

    A denoiser in front of it (``extractor.preprocess``) is trained alone. ``reading`` weighs differences
    of features by a recommender, for recipes that do so.

    Returns a row for each epoch: its number and the means of the values that its steps noted
    (``steps.State.seen``), such as loss, terms and accuracies of the network during training.

    After each epoch the state of the training is written to ``state_file``. If that file exists, training
    continues from it, with the same result on a CPU as without a stop. The caller removes the file.
    Raises ``UserError`` after an epoch whose last loss is not finite.
    Crops and noise are drawn on the device: a GPU waits for the CPU once an epoch, and its numbers are
    not those that the CPU draws from the same seed. If ``torchrun`` has started several processes, each
    gets a share of the batches, and gradients and the last loss are means over all processes.
    """
    recipe = parts(training)[0]  # both recipes of a mix draw batches alike
    trained = extractor.preprocess if isinstance(recipe.loss, Denoising) else extractor.network
    require_precision(precision, on_cpu=extractor.device.type == "cpu")
    layout = fast_layout(precision, extractor.device)
    extractor.requires_grad_(False).to(memory_format=layout)
    trained.requires_grad_(True)
    extractor.precision = precision
    batch_size = min(schedule.batch_size, len(pictures) // n_processes())
    n_batches = len(pictures) // batch_size // n_processes()
    epochs = math.ceil(schedule.epochs / recipe.replays)
    n_steps = epochs * n_batches * recipe.replays
    state = State.of(recipe, extractor, n_steps, reading)
    optimizers = _optimizers(trained, state, schedule)
    log: list[dict[str, float]] = []
    noise = torch.Generator()
    if schedule.gradient_defence is not None:
        defend_gradients(optimizers[0], parse_gradient_defence(schedule.gradient_defence), noise)
    first_epoch = _restore(state_file, trained, optimizers, state, log)
    state.step = first_epoch * n_batches * recipe.replays
    augment = schedule.augmentation.training
    all_classes, device = torch.from_numpy(pictures.classes), extractor.device
    with progress_bar(
        total=n_steps, initial=state.step, desc="training", unit="step", disable=rank() > 0
    ) as bar:
        pace = Pace(n_steps, n_batches)
        for epoch in range(first_epoch, epochs):
            # Each epoch has its own seed, so that no generator state must be saved.
            generator = _seeded(schedule.seed, epoch)
            # All processes use equal noise, since they must alter the mean gradient alike.
            noise.manual_seed(generator.initial_seed() + _NOISE)
            batches = list(recipe.batches(all_classes, batch_size, generator))
            if rank():
                generator.manual_seed(generator.initial_seed() + 31 * rank())
            own = batches[rank() :: n_processes()][:n_batches]
            for rows, pixels in read_pixels(pictures, own, device):
                images = to_images(augment(pixels, generator), precision)
                classes = send(all_classes[rows], device)
                for _ in range(recipe.replays):
                    if schedule.optimizer != "adam":
                        _set_lr(optimizers[0], _lr(schedule, state.step, n_steps))
                    loss = train_step(
                        extractor,
                        optimizers,
                        drawn(training, generator),
                        state,
                        images,
                        classes,
                        generator,
                    )
                    bar.update()
                    if (said := pace.after(state.step, monotonic())) and not rank():
                        bar.write(f"training: {said}", file=sys.stderr)
            last_loss = float(loss)  # the same for all processes
            bar.set_postfix(epoch=epoch + 1, loss=f"{last_loss:.3f}")
            log.append({"epoch": epoch + 1, **_means(state.seen)})
            if not math.isfinite(last_loss):
                raise UserError(
                    f"the training diverged in epoch {epoch + 1}: its loss is no finite number; "
                    f"give a smaller --lr than {schedule.lr:g}"
                )
            state.seen.clear()
            _save(state_file, epoch + 1, trained, optimizers, state, log)
    extractor.precision = "fp32"
    extractor.eval().requires_grad_(False)
    return log


def _means(seen: list[dict[str, Tensor]]) -> dict[str, float]:
    """Return the mean of each noted value over the steps that noted it, by name."""
    names = dict.fromkeys(name for notes in seen for name in notes)
    return {
        name: torch.stack([notes[name] for notes in seen if name in notes]).mean().item()
        for name in names
    }


def _seeded(seed: int, epoch: int) -> torch.Generator:
    """Return the generator of an epoch, and seed torch's global one, which dropout uses."""
    torch.manual_seed(1_000_003 * seed + epoch)
    return torch.Generator().manual_seed(1_000_003 * seed + epoch)


def _optimizers(
    network: nn.Module, state: State, schedule: Schedule
) -> list[torch.optim.Optimizer]:
    """Return the optimiser of the network and, if the loss has parameters, the optimiser of these."""
    groups = _groups(network, schedule)
    if schedule.optimizer == "sgd":
        main = torch.optim.SGD(groups, schedule.lr, momentum=schedule.momentum, nesterov=True)
    else:
        kind = torch.optim.AdamW if schedule.optimizer == "adamw" else torch.optim.Adam
        main = kind(groups, schedule.lr)
    learnt = list(state.learnt.values())
    return [main, torch.optim.SGD(learnt, LEARNT_LR)] if learnt else [main]


def _groups(network: nn.Module, schedule: Schedule) -> list[dict[str, Any]]:
    """Group parameters by their weight decay."""
    if schedule.decays == "all":
        return [{"params": list(network.parameters()), "weight_decay": schedule.weight_decay}]
    dense = [module.weight for module in network.modules() if isinstance(module, nn.Linear)]
    ids = set(map(id, dense))
    rest = [parameter for parameter in network.parameters() if id(parameter) not in ids]
    return [
        {"params": dense, "weight_decay": schedule.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr


def _lr(schedule: Schedule, step: int, n_steps: int) -> float:
    """Return the learning rate of SGD or AdamW in step ``step`` of ``n_steps``."""
    if schedule.lr_drops is None:
        return schedule.lr * _lr_factor((step + 1) / n_steps, _WARM_UP[schedule.optimizer])
    passes = schedule.epochs * step // n_steps
    return schedule.lr * 0.1 ** sum(passes >= schedule.epochs // x for x in schedule.lr_drops)


def _lr_factor(progress: float, warm_up: float) -> float:
    """Return the factor of the learning rate of a one-cycle schedule after a share of the steps."""
    if progress < warm_up:
        return progress / warm_up
    return 0.5 * (1 + math.cos(math.pi * (progress - warm_up) / (1 - warm_up)))


def _save(
    path: Path,
    epochs_done: int,
    network: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    state: State,
    log: list[dict[str, float]],
) -> None:
    """Write the state of process 0 for all processes, including its carried-over perturbation."""
    content: dict[str, Any] = {
        "epochs_done": epochs_done,
        "network": network.state_dict(),
        "optimizers": [optimizer.state_dict() for optimizer in optimizers],
        "learnt": {name: value.detach() for name, value in state.learnt.items()},
        "last_loss": float(state.last_loss),
        "perturbation": state.perturbation,
        "log": log,
    }
    if rank() == 0:
        write_plain(path, content)
    wait_for_all()


def _restore(
    path: Path,
    network: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    state: State,
    log: list[dict[str, float]],
) -> int:
    """Load a state of ``_save``, if there is one, and return the number of finished epochs.

    A damaged state is none: training starts again, and a line says so.
    """
    device = next(network.parameters()).device
    content = load_state(path, device)
    if content is None:
        return 0
    network.load_state_dict(content["network"])
    for optimizer, saved in zip(optimizers, content["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    for name, value in content["learnt"].items():
        state.learnt[name].data.copy_(value)
    state.last_loss = content["last_loss"]
    state.perturbation = content["perturbation"]
    log.extend(content["log"])
    return content["epochs_done"]
