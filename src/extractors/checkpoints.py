"""Checkpoint files of extractors: ours, torchvision's, timm's, open_clip's, Madry's, or any state dict.

Files are read with ``weights_only=True``, so nothing in them is executed.
"""

import io
import math
import pickle
import re
import sys
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.experiments import LINEAR
from src.extractors.architectures import (
    build_headless,
    build_network,
    check_arch,
    cut_of,
    head_of,
    imagenet_labels,
    imagenet_weights_file,
    last_layers,
    normalisation,
)
from src.extractors.extractor import Extractor
from src.extractors.open_clip_models import OpenClipModel, image_tower, text_tower
from src.extractors.optional import optional_library
from src.extractors.timm_models import TimmModel
from src.extractors.weights import IMAGENET
from src.extractors.zoo import (
    DEFAULT_ARCH,
    check_name,
    is_open_clip,
    is_own,
    is_timm,
    recorded_name,
    split_arch,
)

FORMAT = "var"
SAFETENSORS = ".safetensors"
_CONTAINERS = ("model", "state_dict")
"""Keys under which training code stores the state dict: robustness (``model``; long ago and Free-AT
``state_dict``)."""
_BACKBONE = "backbone."
"""Prefix of the entries of an embedder's backbone."""
_CHANNELS = {"mean": "three finite numbers", "std": "three finite numbers above 0"}
_AUXILIARY_HEADS = ("aux1.", "aux2.", "AuxLogits.")
_MODEL = "model."
"""Prefix of the network's entries in robustness's AttackerModel and in files of RobustBench."""
_ROBUSTNESS_PARTS = ("normalizer.", "attacker.")


@dataclass(frozen=True)
class Checkpoint:
    """Content of a checkpoint file; None for each value that it does not record."""

    state_dict: Mapping[str, Tensor]
    arch: str | None = None
    labels: tuple[str, ...] | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    size: int | None = None
    """Side in pixels of the images that the network was trained on."""


def load_extractor(
    arch: str | None = None,
    weights: Path | None = None,
    device: torch.device | str = "cpu",
    head: str = LINEAR,
) -> Extractor:
    """Build the extractor of a checkpoint file, in evaluation mode, frozen, on ``device``.

    With another ``head`` than the linear one it is an extractor of features alone, and its weights need
    no classes; a head of class means is added later (``Extractor.replaced``), and so is one of texts
    (``with_zero_shot``). ``arch`` None takes the architecture that the file records, else ResNet50.
    ``weights`` None takes the published ones. Raises ``UserError``, with the file and the first wrong
    key, if it is no checkpoint or belongs to another architecture.
    """
    if arch is not None:
        (check_arch if head == LINEAR else check_name)(arch)
        if weights is None and head == LINEAR:
            _require_classes(arch)
    path = weights or imagenet_weights_file(arch or DEFAULT_ARCH)
    checkpoint = read_checkpoint(path)
    if checkpoint.arch and not is_own(split_arch(checkpoint.arch)[0]):
        try:
            check_name(checkpoint.arch)
        except UserError as error:
            raise UserError(f"{path} records an architecture that is not known: {error}") from error
    if arch and checkpoint.arch and recorded_name(arch) != checkpoint.arch:
        raise UserError(f"{path} is a {checkpoint.arch}, but --arch says {arch}")
    if arch is None and checkpoint.arch and is_own(split_arch(checkpoint.arch)[0]):
        # A checkpoint must not decide which code is run.
        raise UserError(
            f"{path} is a {checkpoint.arch}: name its file with --arch FOLDER/{checkpoint.arch}"
        )
    arch = arch or checkpoint.arch or DEFAULT_ARCH
    load = _load_classifier if head == LINEAR else _load_headless
    extractor = load(checkpoint, arch, path).replaced(mean=checkpoint.mean, std=checkpoint.std)
    extractor.trained_size = checkpoint.size
    extractor.weights_file = path
    return extractor.to(device).eval().requires_grad_(False)


def _load_classifier(checkpoint: Checkpoint, arch: str, path: Path) -> Extractor:
    if checkpoint.labels is None:
        _require_classes(arch)
    state_dict = _in_our_terms(checkpoint, arch)
    if is_timm(arch) and checkpoint.labels is None:
        state_dict = TimmModel.of(split_arch(arch)[0]).translated(state_dict)
    network, n_classes = _build_for(state_dict, arch, path)
    _check_entries(state_dict, network.state_dict(), arch, path)
    network.load_state_dict(state_dict)
    labels = checkpoint.labels or default_labels(n_classes)
    if len(labels) != n_classes:
        raise UserError(f"{path} has {n_classes} classes but {len(labels)} labels")
    mean, std = normalisation(arch)
    return Extractor(network, labels, head_of(arch), arch=arch, mean=mean, std=std)


def _load_headless(checkpoint: Checkpoint, arch: str, path: Path) -> Extractor:
    """Build the network without its head.

    A checkpoint with classes of its own has a linear head, even if the published weights have none.
    """
    cut = cut_of(arch) if checkpoint.labels is None else head_of(arch)
    entries = _in_our_terms(checkpoint, arch)
    if cut is not None:
        entries = _without([cut], entries)
    try:
        extractor = build_headless(arch, cut, entries)
    except ValueError as error:
        raise UserError(f"{path} is not a checkpoint of {arch}: {error} (--arch?)") from error
    if is_timm(arch) and cut is None:  # timm has translated and loaded the weights
        entries = extractor.network.state_dict()
    _check_entries(entries, extractor.network.state_dict(), arch, path)
    extractor.network.load_state_dict(entries)
    return extractor


def with_zero_shot(extractor: Extractor, labels: Sequence[str]) -> Extractor:
    """Return ``extractor``, of open_clip, with the head that compares images with the names ``labels``.

    The text tower is that of its own checkpoint. Where this has an image tower alone (FARE, TeCoA), it is
    that of the published weights that the architecture names, from which the image tower was tuned.
    Raises ``UserError`` if there is none or it does not fit.
    """
    model, path = OpenClipModel.of(extractor.arch), extractor.weights_file
    entries = text_tower(read_checkpoint(path).state_dict)
    if not entries:
        try:
            path = model.cached_weights("--model_file")
        except UserError as error:
            raise UserError(
                f"{path} has no text tower, which --head zero_shot needs: {error}"
            ) from error
        entries = text_tower(read_checkpoint(path).state_dict)
    tower = model.build_text_tower()
    _check_entries(entries, text_tower(tower.state_dict()), extractor.arch, path)
    tower.load_state_dict(entries, strict=False)
    try:
        head = model.embed_classes(tower, labels)
    except ValueError as error:
        raise UserError(f"{path}: {error}; is the checkpoint damaged?") from error
    return extractor.replaced(head=head.to(extractor.device), labels=labels)


def _require_classes(arch: str) -> None:
    """Raise ``UserError`` if published weights of ``arch`` have no head of classes."""
    if is_timm(arch) and split_arch(arch)[1] is None:
        TimmModel.of(arch).require_classes()


def load_pretrained(extractor: Extractor, source: str) -> Path:
    """Load another checkpoint of its backbone into ``extractor``; return the file.

    ``source`` is a path, or ``imagenet`` for torchvision's weights. All layers are loaded except the
    last ones, which belong to a task: the head, and an embedding layer unless both are embedders of
    the same architecture. The normalisation is loaded if the file records it. Raises
    ``UserError`` if the file is missing or belongs to another backbone.
    """
    backbone, dim = split_arch(extractor.arch)
    path = imagenet_weights_file(backbone, "--pretrained") if source == IMAGENET else Path(source)
    checkpoint = read_checkpoint(path)
    of_backbone, of_dim = split_arch(checkpoint.arch or backbone)
    if recorded_name(of_backbone) != recorded_name(backbone):
        raise UserError(f"{path} is a {checkpoint.arch}, not the backbone of {extractor.arch}")
    entries = _in_our_terms(checkpoint, backbone)
    if dim and not of_dim:
        entries = {_BACKBONE + key: value for key, value in entries.items()}
    elif of_dim and not dim:
        entries = {
            key.removeprefix(_BACKBONE): value
            for key, value in entries.items()
            if key.startswith(_BACKBONE)
        }
    head, *embedding_layer = last_layers(extractor.arch)
    left_out = [head] if of_dim == dim else [head, *embedding_layer]
    kept = _without(left_out, entries)
    expected = _without(left_out, extractor.network.state_dict())
    _check_entries(kept, expected, backbone, path)
    extractor.network.load_state_dict(kept, strict=False)
    for own, recorded in ((extractor.mean, checkpoint.mean), (extractor.std, checkpoint.std)):
        if recorded is not None:
            own.copy_(torch.tensor(recorded).view_as(own))
    return path


def default_labels(n_classes: int) -> tuple[str, ...]:
    """Return ImageNet's labels for 1000 classes, otherwise ``class 0``, ``class 1``, ..."""
    labels = imagenet_labels()
    if n_classes == len(labels):
        return labels
    return tuple(f"class {number}" for number in range(n_classes))


def save_extractor(path: Path, extractor: Extractor) -> None:
    """Write a checkpoint of this project: a dict of plain tensors, strings and lists."""
    state_dict = {key: value.cpu() for key, value in extractor.network.state_dict().items()}
    content = {
        "format": FORMAT,
        "arch": recorded_name(extractor.arch),
        "labels": list(extractor.labels),
        "mean": extractor.mean.flatten().tolist(),
        "std": extractor.std.flatten().tolist(),
        "size": extractor.trained_size,
        "state_dict": state_dict,
    }
    write_plain(path, content)


def write_plain(path: Path, content: Mapping[str, Any]) -> None:
    """Write tensors, numbers, strings and containers of these, atomically.

    They are serialised in memory first: torch's own file writer stores the file's name and reports a full
    disk as an internal error.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    with atomic_output(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def read_checkpoint(path: Path) -> Checkpoint:
    """Read any of the known layouts; ``UserError`` names the file and the mistake."""
    content = load_plain(path)
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a checkpoint")
    if content.get("format") == FORMAT:
        _check_own_format(path, content)
        _check_dense(path, content["state_dict"])
        return Checkpoint(
            content["state_dict"],
            content["arch"],
            tuple(content["labels"]),
            tuple(content["mean"]),
            tuple(content["std"]),
            content.get("size"),
        )
    arch = content.get("arch")
    tensors = state_dict_of(path, content)
    _check_dense(path, tensors)
    state_dict, mean, std = _unwrap(tensors)
    for name, values in (("mean", mean), ("std", std)):
        if values is not None and not _are_channels(values, positive=name == "std"):
            raise UserError(f"{path}: its {name} is {values}, not {_CHANNELS[name]}")
    return Checkpoint(state_dict, arch if isinstance(arch, str) else None, None, mean, std)


def state_dict_of(path: Path, content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors of the state dict in the content of ``path``; ``UserError`` if it has none."""
    inner = [content[key] for key in _CONTAINERS if isinstance(content.get(key), Mapping)]
    entries = (inner or [content])[0]
    tensors = {key: value for key, value in entries.items() if _is_entry(key, value)}
    if not tensors:
        raise UserError(f"{path} holds no state dict (a dict of tensors)")
    return tensors


def _check_dense(path: Path, entries: Mapping[str, Tensor]) -> None:
    """Raise ``UserError`` for the first tensor that is sparse, quantised or without values."""
    for key, value in entries.items():
        if value.is_meta or value.is_quantized or value.layout != torch.strided:
            raise UserError(f"{path}: {key} is no dense tensor of numbers")


def _check_own_format(path: Path, content: Mapping[str, Any]) -> None:
    """Raise ``UserError`` for the first entry that ``save_extractor`` would not have written."""
    entries, labels, size = content.get("state_dict"), content.get("labels"), content.get("size")
    tensors = isinstance(entries, Mapping) and all(_is_entry(*entry) for entry in entries.items())
    correct = {
        "state_dict, a dict of tensors": tensors and bool(entries),
        "arch, a name": isinstance(content.get("arch"), str),
        "labels, a list of texts": isinstance(labels, (list, tuple))
        and all(isinstance(label, str) for label in labels),
        f"mean, {_CHANNELS['mean']}": _are_channels(content.get("mean")),
        f"std, {_CHANNELS['std']}": _are_channels(content.get("std"), positive=True),
        "size, a number of pixels or none": size is None or (type(size) is int and size > 0),
    }
    for entry, is_correct in correct.items():
        if not is_correct:
            raise UserError(f"{path} is a damaged checkpoint: it lacks a correct {entry}")


def _are_channels(values: object, *, positive: bool = False) -> bool:
    """Return whether ``values`` are three finite numbers, above 0 if ``positive``."""
    return (
        isinstance(values, (list, tuple))
        and len(values) == 3
        and all(isinstance(value, float) and math.isfinite(value) for value in values)
        and not (positive and min(values) <= 0)
    )


def load_plain(path: Path, device: torch.device | str = "cpu") -> Any:
    """Load a file with ``torch.load``, which unpickles only tensors and containers.

    Raises ``UserError`` for a missing file and for any other content.
    """
    if not path.is_file():
        raise UserError(f"missing file: {path}")
    if path.suffix == SAFETENSORS:
        return _load_safetensors(path)
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # arbitrary bytes make the unpickler raise errors of any type
        if isinstance(error, pickle.UnpicklingError) and _is_pickle(path):
            raise UserError(
                f"{path} holds more than tensors, and reading it could run code from the file; if you "
                f"trust it: python -m audits.convert_checkpoint {path} {path.with_suffix('.tensors.pt')}"
            ) from error
        raise UserError(f"{path} is not a checkpoint, or it is incomplete") from error


def load_state(path: Path, device: torch.device | str) -> dict[str, Any] | None:
    """Load the state of an unfinished training (``write_plain``); None if there is none.

    A damaged file is deleted, so that the training starts again, and a line on stderr names it.
    """
    if not path.exists():
        return None
    try:
        return load_plain(path, device)
    except UserError:
        print(f"{path} is damaged: training starts again", file=sys.stderr)
        path.unlink(missing_ok=True)
        return None


def _load_safetensors(path: Path) -> dict[str, Tensor]:
    safetensors = optional_library("safetensors.torch")
    try:
        return safetensors.load_file(path)
    except optional_library("safetensors").SafetensorError as error:
        raise UserError(f"{path} is not a checkpoint, or it is incomplete ({error})") from error


def _is_pickle(path: Path) -> bool:
    """Return whether the file has the format of ``torch.save``, with any content."""
    if zipfile.is_zipfile(path):
        return True
    with path.open("rb") as stream:
        return stream.read(1) == pickle.PROTO


def _is_entry(key: object, value: object) -> bool:
    return isinstance(key, str) and isinstance(value, Tensor)


def _unwrap(
    state_dict: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], tuple[float, ...] | None, tuple[float, ...] | None]:
    """Undo DataParallel (``module.``) and robustness's AttackerModel; return its (mean, std) too.

    An AttackerModel holds the network twice (``model.``, ``attacker.model.``) and a normaliser.
    """
    state_dict = _strip("module.", state_dict)
    if not any(key.startswith(_ROBUSTNESS_PARTS) for key in state_dict):
        return state_dict, None, None
    normaliser = (state_dict.get(f"normalizer.new_{name}") for name in ("mean", "std"))
    mean, std = (None if value is None else tuple(value.flatten().tolist()) for value in normaliser)
    network = {key: value for key, value in state_dict.items() if key.startswith(_MODEL)}
    return _strip(_MODEL, network), mean, std


def _strip(prefix: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Remove ``prefix`` if every key has it."""
    if all(key.startswith(prefix) for key in state_dict):
        return {key.removeprefix(prefix): value for key, value in state_dict.items()}
    return dict(state_dict)


def _without(layers: Sequence[str], state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    prefixes = tuple(f"{layer}." for layer in layers)
    return {key: value for key, value in state_dict.items() if not key.startswith(prefixes)}


def _in_our_terms(checkpoint: Checkpoint, arch: str) -> dict[str, Tensor]:
    """Remove auxiliary heads, text towers and TensorFlow's class 0; translate DenseNet's old names.

    If all names begin with ``model.``, this is removed too, but not for a user's own network, one of
    whose layers may have that name.
    """
    entries = checkpoint.state_dict
    if not is_own(split_arch(arch)[0]):
        entries = _strip(_MODEL, entries)
    kept = {k: v for k, v in entries.items() if not k.startswith(_AUXILIARY_HEADS)}
    if is_open_clip(arch):
        return image_tower(kept)
    if is_timm(arch) and checkpoint.labels is None:
        return TimmModel.of(split_arch(arch)[0]).without_background(kept)
    if not arch.startswith("densenet"):
        return kept
    return {
        re.sub(r"\.(norm|conv)\.([12])\.", r".\1\2.", key): value for key, value in kept.items()
    }


def _build_for(state_dict: Mapping[str, Tensor], arch: str, path: Path) -> tuple[nn.Module, int]:
    """Build a network of ``arch`` with the number of classes in ``state_dict``; return both."""
    head = head_of(arch) + ".weight"
    if head not in state_dict:
        raise UserError(f"{path} is not a checkpoint of {arch}: it lacks {head} (--arch?)")
    if not (state_dict[head].ndim and len(state_dict[head])):
        raise UserError(f"{path} is not a checkpoint of {arch}: its {head} has no rows")
    n_classes = len(state_dict[head])
    return build_network(arch, n_classes), n_classes


def _check_entries(
    state_dict: Mapping[str, Tensor], expected: Mapping[str, Tensor], arch: str, path: Path
) -> None:
    """Compare names and shapes; ``UserError`` names the first difference.

    It also names the first entry that is not finite.
    """
    # Old weights lack this counter of batch norm; evaluation does not read it.
    missing = [
        key for key in expected if key not in state_dict and not key.endswith("num_batches_tracked")
    ]
    unlike = [
        key
        for key, value in expected.items()
        if key in state_dict and state_dict[key].shape != value.shape
    ]
    unexpected = [key for key in state_dict if key not in expected]
    for keys, problem in (
        (missing, "lacks"),
        (unlike, "has another shape of"),
        (unexpected, "also has"),
    ):
        if keys:
            raise UserError(
                f"{path} is not a checkpoint of {arch}: it {problem} {keys[0]} (--arch?)"
            )
    for key, value in state_dict.items():
        if not torch.isfinite(value).all():
            raise UserError(f"{path}: {key} holds NaN or infinite values")
