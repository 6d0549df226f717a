"""Training of SemSim on triplets: an original, a recognisable and an unrecognisable reconstruction."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.datasets.triplet_folders import (
    ORIGINAL,
    OTHER,
    RECOGNISABLE,
    UNRECOGNISABLE,
    JudgedImages,
)
from src.extractors.checkpoints import load_state, write_plain
from src.extractors.extractor import fast_layout
from src.extractors.feeding import send
from src.extractors.semsim import SemSim
from src.training.batches import draw_partners
from src.training.pictures import PADDED, to_images

MARGIN = 1.0
_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4
_LR_DROPS = (2.667, 1.6, 1.142)
"""The learning rate falls to a tenth after ``epochs // x`` of the epochs: 37, 62 and 87 of 100."""
_JUDGED_DRAWS = 8
"""Number of negatives that each held-out positive is compared with in ``judge``."""
_IMAGES_AT_ONCE = 256
_LEAST_MSE = 1e-10

Anchor = Literal["original", "any"]


@dataclass(frozen=True)
class SemSimSchedule:
    """Duration and settings of training; all but ``anchor`` are as published."""

    epochs: int = 100
    batch_size: int = 64
    """Number of triplets in a step."""
    lr: float = 0.05
    anchor: Anchor = "original"
    """original: an epoch compares each recognisable reconstruction with its original. any: an epoch
    compares each image with one of the same folder, as published."""
    psnr_weighted: bool = False
    """True for two positives and two negatives, of which the one with lower PSNR weighs more."""
    seed: int = 0

    def lr_in(self, epoch: int) -> float:
        """Return the learning rate in ``epoch`` 0, 1, ..."""
        return self.lr * 0.1 ** sum(epoch >= max(1, self.epochs // x) for x in _LR_DROPS)


class JudgedTriplets:
    """Triplets of judged images, which are drawn again in every epoch."""

    def __init__(
        self, judged: JudgedImages, anchor: Anchor = "original", psnr_weighted: bool = False
    ) -> None:
        """Prepare the draws; ``psnr_weighted`` draws (original, two positives, two negatives).

        Raises ``UserError`` if there is no triplet, and for ``psnr_weighted`` with other anchors.
        """
        if psnr_weighted and anchor != "original":
            raise UserError("--psnr_weighted compares with originals: it takes --anchor original")
        self.pixels = torch.from_numpy(judged.pixels).permute(0, 3, 1, 2).contiguous()
        """(n, 3, side, side) uint8."""
        self.roles, self.owners = torch.from_numpy(judged.roles), torch.from_numpy(judged.owners)
        self.anchor, self.psnr_weighted = anchor, psnr_weighted
        originals = torch.nonzero(self.roles == ORIGINAL).flatten()
        self.originals = originals[self.owners[originals].argsort()]
        """(k,) rows in the order of the numbers of originals."""
        # Images are drawn from pools: for each original one of recognisable and one of unrecognisable
        # images, one of other images, and one of originals that may only be anchors.
        others = 2 * judged.n_originals
        self.pools = 2 * self.owners + (self.roles == UNRECOGNISABLE)
        self.pools[self.roles == OTHER] = others
        visited = self.roles != OTHER
        if anchor == "original":
            self.pools[originals] = others + 1
            visited = self.roles == RECOGNISABLE
        rows = torch.nonzero(visited).flatten()
        sizes = self.pools.bincount(minlength=others + 1)
        # With the anchor "any" originals are in the even pool, with the recognisable images.
        opposite = self.pools[rows] ^ 1
        opposite = torch.where(sizes[opposite] > 0, opposite, others)
        has_negative = sizes[opposite] > 0
        self.visited, self.negative_pools = rows[has_negative], opposite[has_negative]
        if len(self.visited) == 0:
            raise UserError(
                "there is no triplet: some original needs a recognisable and an unrecognisable image"
            )

    def __len__(self) -> int:
        """Return the number of triplets in an epoch."""
        return len(self.visited)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Draw rows (m, 3) int64 of (anchor, positive, negative) in random order; (m, 5) if weighted."""
        order = torch.randperm(len(self), generator=generator)
        visited, negative_pools = self.visited[order], self.negative_pools[order]
        by_pool = torch.argsort(self.pools, stable=True)
        partner = partial(draw_partners, self.pools, by_pool, generator=generator)
        originals = self.originals[self.owners[visited]]
        if self.psnr_weighted:
            positives = (visited, partner(self.pools[visited]))
            negatives = (partner(negative_pools), partner(negative_pools))
            return torch.stack([originals, *positives, *negatives], dim=1)
        if self.anchor == "any":
            return torch.stack(
                [visited, partner(self.pools[visited]), partner(negative_pools)], dim=1
            )
        return torch.stack([originals, visited, partner(negative_pools)], dim=1)

    def weights(self, rows: Tensor) -> Tensor:
        """Return the weights (m, 4) of positives and negatives, or ones (m, 2) without weighting.

        The one of two images with lower PSNR has the larger weight, sigmoid(difference in dB), so that
        images that people and PSNR judge differently count more.
        """
        if not self.psnr_weighted:
            return torch.ones(len(rows), 2)
        images = to_images(self.pixels[rows])
        mse = (images[:, 1:] - images[:, :1]).square().mean(dim=(2, 3, 4)).clamp(min=_LEAST_MSE)
        pairs = (10 * mse.log10()).view(len(rows), 2, 2)
        return pairs.softmax(dim=2).flatten(1)


def triplet_loss(embeddings: Tensor, weights: Tensor) -> Tensor:
    """Return the mean over triplets of sum_{p, n} max(0, d_p - d_n + ``MARGIN``).

    ``embeddings`` (1 + P + N, b, D) are those of anchors, positives and equally many negatives. Distances
    from the anchor are multiplied by ``weights`` (b, P + N). For P = N = 1 it is torch's triplet loss.
    """
    anchors, others = embeddings[:1], embeddings[1:]
    distances = functional.pairwise_distance(anchors.expand_as(others), others).T * weights
    positive, negative = distances.chunk(2, dim=1)
    return functional.relu(positive[:, :, None] - negative[:, None] + MARGIN).sum(dim=(1, 2)).mean()


def train_semsim(
    triplets: JudgedTriplets,
    model: SemSim,
    schedule: SemSimSchedule,
    state_file: Path,
    *,
    held_out: JudgedTriplets,
) -> list[dict[str, float]]:
    """Train ``model`` in place on its device, and leave it frozen and in evaluation mode.

    Returns a row for each epoch: its number, mean ``loss``, and ``triplet_accuracy`` and ``auc`` (see
    ``judge``) of ``held_out``; row 0 describes the untrained network. After each epoch the state is
    written to ``state_file``. If that exists, training continues from it; the caller removes it.
    """
    model.requires_grad_(True).to(memory_format=fast_layout("fp32", model.device))
    optimizer = torch.optim.SGD(
        model.parameters(),
        schedule.lr,
        momentum=_MOMENTUM,
        weight_decay=_WEIGHT_DECAY,
        nesterov=True,
    )
    log = _restore(state_file, model, optimizer)
    if not log:
        log.append(
            {"epoch": 0, "loss": float("nan"), **judge(features_of(model, held_out), held_out)}
        )
    for epoch in progress_bar(range(len(log) - 1, schedule.epochs), desc="training", unit="epoch"):
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr_in(epoch)
        generator = torch.Generator().manual_seed(1_000_003 * schedule.seed + epoch)
        model.train()
        losses = [
            _step(model, optimizer, triplets, rows, generator)
            for rows in _batches(triplets.draw(generator), schedule.batch_size)
        ]
        model.eval()
        measures = judge(features_of(model, held_out), held_out)
        log.append({"epoch": epoch + 1, "loss": torch.stack(losses).mean().item(), **measures})
        _save(state_file, model, optimizer, log)
    model.eval().requires_grad_(False)
    return log


def _batches(rows: Tensor, batch_size: int) -> Iterator[Tensor]:
    """Yield full batches, since batch norm is unreliable in a small one, or all rows if they are few."""
    size = min(batch_size, len(rows))
    yield from rows[: len(rows) // size * size].split(size)


def _step(
    model: SemSim,
    optimizer: torch.optim.Optimizer,
    triplets: JudgedTriplets,
    rows: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """Train on a batch, each image augmented separately, and return the loss."""
    pixels = PADDED.training(send(triplets.pixels[rows.T.flatten()], model.device), generator)
    embeddings = functional.normalize(model(to_images(pixels)))
    weights = send(triplets.weights(rows), model.device)
    loss = triplet_loss(embeddings.view(rows.shape[1], len(rows), -1), weights)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def features_of(model: SemSim, triplets: JudgedTriplets, *, normalised: bool = True) -> Tensor:
    """Return the features (n, D) float32 of all images, on the CPU."""
    batches = triplets.pixels.split(_IMAGES_AT_ONCE)
    features = torch.cat([model(to_images(batch.to(model.device))).cpu() for batch in batches])
    return functional.normalize(features) if normalised else features


def judge(features: Tensor, triplets: JudgedTriplets) -> dict[str, float]:
    """Measure how well distances of ``features`` (n, D) separate recognisable images from others.

    ``triplet_accuracy`` is the share of triplets in which the recognisable image is closer to the
    original. ``auc`` is this share over all pairs of a recognisable and an unrecognisable
    reconstruction, of any originals; NaN if one of the kinds is missing.
    """
    rows = torch.cat(
        [triplets.draw(torch.Generator().manual_seed(seed)) for seed in range(_JUDGED_DRAWS)]
    )
    anchors, positives, negatives = (features[column] for column in rows.T)
    positive, negative = ((anchors - others).norm(dim=1) for others in (positives, negatives))
    recognised, unrecognised = (
        _distances_from_originals(features, triplets, role)
        for role in (RECOGNISABLE, UNRECOGNISABLE)
    )
    return {
        "triplet_accuracy": _share_farther(negative, positive),
        "auc": _share_farther(unrecognised[:, None], recognised),
    }


def _distances_from_originals(features: Tensor, triplets: JudgedTriplets, role: int) -> Tensor:
    """Return the distances (m,) of the images of a role from their originals."""
    rows = torch.nonzero(triplets.roles == role).flatten()
    return (features[rows] - features[triplets.originals[triplets.owners[rows]]]).norm(dim=1)


def report(
    model: SemSim, held_out: JudgedTriplets, log: list[dict[str, float]], *, normalised: bool = True
) -> str:
    """Describe the trained network on ``held_out`` beside the untrained network and pixel distances.

    ``normalised=False`` judges the trained network by features that are not scaled to length 1.
    """
    pixels = to_images(held_out.pixels).flatten(1)
    judged = {
        "SemSim": judge(features_of(model, held_out, normalised=normalised), held_out),
        "the same network untrained": log[0],
        "distance of pixels": judge(pixels, held_out),
    }
    lines = (
        f"  {name}: triplet accuracy {measures['triplet_accuracy']:.1%}, AUC {measures['auc']:.3f}"
        for name, measures in judged.items()
    )
    return "\n".join(("on held-out originals:", *lines))


def _share_farther(a: Tensor, b: Tensor) -> float:
    """Return the share in which ``a`` is above ``b``; equal values count half."""
    return ((a - b).sign().mean().item() + 1) / 2


def _save(
    path: Path, model: SemSim, optimizer: torch.optim.Optimizer, log: list[dict[str, float]]
) -> None:
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "log": log}
    write_plain(path, content)


def _restore(path: Path, model: SemSim, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Load a state of ``_save``, if there is one, and return its log; a damaged state is none."""
    content = load_state(path, model.device)
    if content is None:
        return []
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return content["log"]
