"""Training SemSim on triplets: an original, what people recognise in place of it, what they do not."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from src.artifacts.errors import UserError
from src.datasets.triplet_folders import (
    ORIGINAL,
    OTHER,
    RECOGNISABLE,
    UNRECOGNISABLE,
    JudgedImages,
)
from src.extractors.checkpoints import write_plain
from src.extractors.semsim import SemSim
from src.training.batches import draw_partners
from src.training.pictures import PADDED, to_images

MARGIN = 1.0
_MOMENTUM, _WEIGHT_DECAY = 0.9, 5e-4
_LR_DROPS = (2.667, 1.6, 1.142)
"""The learning rate falls to a tenth after ``epochs // x`` of the epochs: 37, 62 and 87 of 100."""
_JUDGED_DRAWS = 8
"""How often each held-out positive meets a negative when triplets are counted."""
_IMAGES_AT_ONCE = 256
_LEAST_MSE = 1e-10

Anchor = Literal["original", "any"]


@dataclass(frozen=True)
class SemSimSchedule:
    """How long and how fast to train; as published but for ``anchor``."""

    epochs: int = 100
    batch_size: int = 64
    """Triplets in a step."""
    lr: float = 0.05
    anchor: Anchor = "original"
    """original: an epoch compares each recognisable reconstruction with its original. any: each image
    with one of the same folder, as published."""
    psnr_weighted: bool = False
    """Two positives and two negatives, and distances weighted by which of the two has lower PSNR."""
    seed: int = 0

    def lr_in(self, epoch: int) -> float:
        """Of ``epoch`` 0, 1, ..."""
        return self.lr * 0.1 ** sum(epoch >= max(1, self.epochs // x) for x in _LR_DROPS)


class Triplets:
    """Rows of judged images, drawn anew for every epoch."""

    def __init__(
        self, judged: JudgedImages, anchor: Anchor = "original", psnr_weighted: bool = False
    ) -> None:
        """``psnr_weighted`` draws (original, positive, positive, negative, negative).

        Raises ``UserError`` where there is not one triplet, and for weights of any anchor.
        """
        if psnr_weighted and anchor != "original":
            raise UserError("--psnr_weighted compares with originals: it takes --anchor original")
        self.pixels = torch.from_numpy(judged.pixels).permute(0, 3, 1, 2).contiguous()
        """(n, 3, side, side) uint8."""
        self.roles, self.owners = torch.from_numpy(judged.roles), torch.from_numpy(judged.owners)
        self.anchor, self.psnr_weighted = anchor, psnr_weighted
        originals = torch.nonzero(self.roles == ORIGINAL).flatten()
        self.originals = originals[self.owners[originals].argsort()]
        """(k,) rows, by number of the original."""
        # Images are drawn from pools: two for each original, what is recognised and what is not, then
        # that of the others, and one for originals where nothing but an anchor may be one.
        others = 2 * judged.n_originals
        self.pools = 2 * self.owners + (self.roles == UNRECOGNISABLE)
        self.pools[self.roles == OTHER] = others
        visited = self.roles != OTHER
        if anchor == "original":
            self.pools[originals] = others + 1
            visited = self.roles == RECOGNISABLE
        rows = torch.nonzero(visited).flatten()
        sizes = self.pools.bincount(minlength=others + 1)
        # Originals of the anchors "any" stand in an even pool, that of the recognisable.
        opposite = self.pools[rows] ^ 1
        opposite = torch.where(sizes[opposite] > 0, opposite, others)
        has_negative = sizes[opposite] > 0
        self.visited, self.negative_pools = rows[has_negative], opposite[has_negative]
        if len(self.visited) == 0:
            raise UserError(
                "there is no triplet: some original needs a recognisable and an unrecognisable image"
            )

    def __len__(self) -> int:
        """Triplets in an epoch."""
        return len(self.visited)

    def draw(self, generator: torch.Generator) -> Tensor:
        """Rows (m, 3) int64 of (anchor, positive, negative) in random order; (m, 5) if weighted."""
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
        """Of the distances of positives and of negatives from their anchor, (m, 4); ones of (m, 2).

        Of two, the one of lower PSNR weighs sigmoid(difference in dB), more than the other: what people
        and PSNR judge differently counts more.
        """
        if not self.psnr_weighted:
            return torch.ones(len(rows), 2)
        images = to_images(self.pixels[rows], torch.device("cpu"))
        mse = (images[:, 1:] - images[:, :1]).square().mean(dim=(2, 3, 4)).clamp(min=_LEAST_MSE)
        pairs = (10 * mse.log10()).view(len(rows), 2, 2)
        return pairs.softmax(dim=2).flatten(1)


def triplet_loss(embeddings: Tensor, weights: Tensor) -> Tensor:
    """Mean over triplets of the sum of max(0, d_p - d_n + ``MARGIN``) over positives and negatives.

    ``embeddings`` (1 + P + N, b, D) of anchors, positives and as many negatives; their distances from
    the anchor are multiplied by ``weights`` (b, P + N). With one of each it is torch's triplet loss.
    """
    anchors, others = embeddings[:1], embeddings[1:]
    distances = functional.pairwise_distance(anchors.expand_as(others), others).T * weights
    positive, negative = distances.chunk(2, dim=1)
    return functional.relu(positive[:, :, None] - negative[:, None] + MARGIN).sum(dim=(1, 2)).mean()


def train_semsim(
    triplets: Triplets,
    model: SemSim,
    schedule: SemSimSchedule,
    state_file: Path,
    *,
    held_out: Triplets,
) -> list[dict[str, float]]:
    """Train ``model`` in place on its device; it is left in evaluation mode, frozen.

    Returns a row for each epoch, its number, mean ``loss``, and ``triplet_accuracy`` and ``auc`` (see
    ``judge``) of ``held_out``; row 0 is of the untrained network. After each epoch everything goes to
    ``state_file``, from which training continues where it exists; the caller removes it.
    """
    model.requires_grad_(True).to(memory_format=torch.channels_last)
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
    for epoch in tqdm(range(len(log) - 1, schedule.epochs), desc="training", unit="epoch"):
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
    """Whole ones: batch norm wants no small last batch. Fewer triplets than that are one batch."""
    size = min(batch_size, len(rows))
    yield from rows[: len(rows) // size * size].split(size)


def _step(
    model: SemSim,
    optimizer: torch.optim.Optimizer,
    triplets: Triplets,
    rows: Tensor,
    generator: torch.Generator,
) -> Tensor:
    """One forward of all images of a batch, each shifted and flipped by itself; the loss."""
    pixels = PADDED.training(triplets.pixels[rows.T.flatten()], generator)
    embeddings = functional.normalize(model(to_images(pixels, model.device)))
    weights = triplets.weights(rows).to(model.device)
    loss = triplet_loss(embeddings.view(rows.shape[1], len(rows), -1), weights)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


@torch.no_grad()
def features_of(model: SemSim, triplets: Triplets, *, normalised: bool = True) -> Tensor:
    """(n, D) float32 on the CPU, of all images."""
    batches = triplets.pixels.split(_IMAGES_AT_ONCE)
    features = torch.cat([model(to_images(of, model.device)).cpu() for of in batches])
    return functional.normalize(features) if normalised else features


def judge(features: Tensor, triplets: Triplets) -> dict[str, float]:
    """How well distances of ``features`` (n, D) tell what is recognised from what is not.

    ``triplet_accuracy``: share of triplets in which what is recognised is closer to its original.
    ``auc``: how often this is so of two reconstructions, of whatever originals; NaN where all are
    recognised or none is.
    """
    rows = torch.cat(
        [triplets.draw(torch.Generator().manual_seed(seed)) for seed in range(_JUDGED_DRAWS)]
    )
    anchors, positives, negatives = (features[of] for of in rows.T)
    positive, negative = ((anchors - of).norm(dim=1) for of in (positives, negatives))
    recognised, unrecognised = (
        _distances_from_originals(features, triplets, role)
        for role in (RECOGNISABLE, UNRECOGNISABLE)
    )
    return {
        "triplet_accuracy": _share_farther(negative, positive),
        "auc": _share_farther(unrecognised[:, None], recognised),
    }


def _distances_from_originals(features: Tensor, triplets: Triplets, role: int) -> Tensor:
    """(m,): of the images of a role."""
    rows = torch.nonzero(triplets.roles == role).flatten()
    return (features[rows] - features[triplets.originals[triplets.owners[rows]]]).norm(dim=1)


def report(
    model: SemSim, held_out: Triplets, log: list[dict[str, float]], *, normalised: bool = True
) -> str:
    """What training has brought on ``held_out`` originals, against no training and plain pixels.

    ``normalised`` False judges the trained network by features of any length.
    """
    pixels = to_images(held_out.pixels, torch.device("cpu")).flatten(1)
    judged = {
        "SemSim": judge(features_of(model, held_out, normalised=normalised), held_out),
        "the same network untrained": log[0],
        "distance of pixels": judge(pixels, held_out),
    }
    lines = (
        f"  {name}: triplet accuracy {of['triplet_accuracy']:.1%}, AUC {of['auc']:.3f}"
        for name, of in judged.items()
    )
    return "\n".join(("on held-out originals:", *lines))


def _share_farther(a: Tensor, b: Tensor) -> float:
    """How often ``a`` is above ``b``; equal ones are half so."""
    return ((a - b).sign().mean().item() + 1) / 2


def _save(
    path: Path, model: SemSim, optimizer: torch.optim.Optimizer, log: list[dict[str, float]]
) -> None:
    content = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "log": log}
    write_plain(path, content)


def _restore(path: Path, model: SemSim, optimizer: torch.optim.Optimizer) -> list[dict[str, float]]:
    """Take up what ``_save`` left; returns the log so far."""
    if not path.exists():
        return []
    content = torch.load(path, map_location=model.device, weights_only=True)
    model.load_state_dict(content["model"])
    optimizer.load_state_dict(content["optimizer"])
    return content["log"]
