"""Table of the networks that are known by name; reading it loads no framework.

``resnet50`` is a classifier. ``resnet50+512`` is an embedder: the same backbone with 512 outputs, brought
to the unit sphere, and a nearest-class-mean head. Networks of timm have names of their own
(``timm_models``), as have those of open_clip (``open_clip_models``), and ``FILE.py:FUNCTION`` is a user's
network (``own_networks``).
"""

import ast
import importlib.util
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from src.artifacts.errors import UserError
from src.artifacts.manifest import fingerprint
from src.extractors.published import published_networks

DEFAULT_ARCH = "resnet50"
EMBEDDER_HEAD = "head"
TIMM = "timm:"
OPEN_CLIP = "open_clip:"

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_HALF = (0.5, 0.5, 0.5)


@dataclass(frozen=True)
class Architecture:
    """Network and the images that it reads."""

    builder: str
    """Name of torchvision's function, or of a class of ``networks``."""
    head: str | None
    """Name of the layer that reads the features and returns the logits; None for a backbone, which is
    published without classes."""
    size: int = 224
    """Side of its images in pixels."""
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD
    options: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of the builder beside the number of outputs."""
    weights: Literal["torchvision"] | None = "torchvision"
    """Publisher of ImageNet weights."""
    cut: str | None = None
    """Layer that reads the features and is left out of a backbone; None takes the network's output."""


_TORCHVISION_HEADS = {
    "classifier": "densenet121 densenet161 densenet169 densenet201",
    "classifier.1": "efficientnet_b0 efficientnet_b1 efficientnet_b2 efficientnet_b3 efficientnet_b4 "
    "efficientnet_b5 efficientnet_b6 efficientnet_b7 efficientnet_v2_l efficientnet_v2_m "
    "efficientnet_v2_s mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2 squeezenet1_0 "
    "squeezenet1_1",
    "classifier.2": "convnext_base convnext_large convnext_small convnext_tiny",
    "classifier.3": "mobilenet_v3_large mobilenet_v3_small",
    "classifier.5": "maxvit_t",
    "classifier.6": "alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
    "fc": "googlenet inception_v3 regnet_x_16gf regnet_x_1_6gf regnet_x_32gf regnet_x_3_2gf "
    "regnet_x_400mf regnet_x_800mf regnet_x_8gf regnet_y_128gf regnet_y_16gf regnet_y_1_6gf "
    "regnet_y_32gf regnet_y_3_2gf regnet_y_400mf regnet_y_800mf regnet_y_8gf resnet101 resnet152 "
    "resnet18 resnet34 resnet50 resnext101_32x8d resnext101_64x4d resnext50_32x4d "
    "shufflenet_v2_x0_5 shufflenet_v2_x1_0 shufflenet_v2_x1_5 shufflenet_v2_x2_0 wide_resnet101_2 "
    "wide_resnet50_2",
    "head": "swin_b swin_s swin_t swin_v2_b swin_v2_s swin_v2_t",
    "heads.head": "vit_b_16 vit_b_32 vit_h_14 vit_l_16 vit_l_32",
}
# The Inceptions' ImageNet weights read (x - .5) / .5, which torchvision computes inside the network and
# the extractor by its mean and std.
_INCEPTION = {
    "mean": _HALF,
    "std": _HALF,
    "options": {"aux_logits": False, "transform_input": False, "init_weights": False},
}
_UNUSUAL: dict[str, dict[str, Any]] = {
    "googlenet": _INCEPTION,
    "inception_v3": _INCEPTION,
    "efficientnet_v2_l": {"mean": _HALF, "std": _HALF},
}
TORCHVISION = {
    name: Architecture(name, head, **_UNUSUAL.get(name, {}))
    for head, names in _TORCHVISION_HEADS.items()
    for name in names.split()
}

_PLAIN = Architecture("C2F2", "fc2", 28, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), weights=None)
_CIFAR10 = Architecture("CifarResNet", "linear", 32, weights=None)
# Mean and std of the training images of CIFAR-100; those of CIFAR-10 differ by 0.03 at most.
_CIFAR100 = replace(_CIFAR10, mean=(0.50716, 0.48669, 0.44120), std=(0.26733, 0.25644, 0.27615))
_CONVNET = replace(_CIFAR100, builder="ConvNet", head="27")

SMALL_NETWORKS = {
    "c2f2": _PLAIN,
    "lenet": replace(_PLAIN, builder="LeNet"),
    "wong_small": replace(_PLAIN, builder="WongSmall", head="7"),
    "cifarnet": replace(_CIFAR10, builder="CifarNet", head="logits", mean=_HALF, std=_HALF),
    "cifar_resnet8": replace(_CIFAR10, options={"blocks": 1}),
    "cifar_resnet20": _CIFAR10,
    "cifar_resnet2b": replace(
        _CIFAR10,
        builder="CifarResNet2b",
        head="linear2",
        mean=(0.4914, 0.4822, 0.4465),
        std=(0.2471, 0.2435, 0.2616),
    ),
    "cifar_resnet20x4": replace(_CIFAR100, options={"width": 64, "projection": True}),
    "cifar_resnet20x10": replace(_CIFAR100, options={"width": 160, "projection": True}),
    "cifar_resnet18": replace(
        _CIFAR100, options={"blocks": 2, "width": 64, "stages": 4, "projection": True}
    ),
    "convnet8": replace(_CONVNET, options={"width": 8}),
    "convnet16": replace(_CONVNET, options={"width": 16}),
    "convnet32": replace(_CONVNET, options={"width": 32}),
    "convnet64": replace(_CONVNET, options={"width": 64}),
    "lenet_zhu": replace(_CIFAR100, builder="LeNetZhu", head="7"),
}

ARCHITECTURES = {
    **TORCHVISION,
    **SMALL_NETWORKS,
}


_ENCODERS = re.compile(r"clip.*\.|siglip|\..*clip|dinov|\.dino|mae|aimv2|vit_pe_|jepa")
"""Families of timm that are trained without classes. An untagged CLIP may be a tuned one."""
_TUNED = re.compile(r"_ft_in\d|augreg_in\d")
"""Tags of members that were trained on classes afterwards."""
WITHOUT_CLASSES = (
    "stages 1 and 3 serve it with --head none --classes FILE or --head class_means --classes FILE"
)


def check_name(arch: str) -> str:
    """Return ``arch`` if the table has it, its library is installed, or a file has the function.

    Raises ``UserError`` otherwise. ``architectures.check_arch`` asks the library whether it has the
    network. A user's file is read here, but not run.
    """
    backbone, _ = split_arch(arch)
    if is_own(backbone):
        _check_function(backbone)
    elif library := _library_of(backbone):
        if importlib.util.find_spec(library) is None:
            raise UserError(
                f"--arch {arch} needs {library}, an optional library: "
                "pip install -r requirements-extras.txt"
            )
    elif backbone not in ARCHITECTURES:
        for row in published_networks():
            if row.name == backbone:
                raise UserError(
                    f"{backbone} is a name of published weights: give --arch {row.arch} "
                    f"--model_file FILE (from {row.weights or row.source})"
                )
        raise UserError(
            f"torchvision has no classifier {backbone!r} (--arch resnet50, mobilenet_v2, ...), and it "
            f"is none of {', '.join(SMALL_NETWORKS)}, nor one of timm (timm:<name>) or "
            "open_clip (open_clip:<name>), nor of your own (FILE.py:FUNCTION)"
        )
    return arch


def check_classifier(arch: str) -> None:
    """Return ``check_name``; ``UserError`` also if the published weights have no head of classes.

    Names tell the families of timm here. timm's own record takes seconds to load and is read with the
    weights (``TimmModel.require_classes``).
    """
    check_name(arch)
    if split_arch(arch)[1] is not None:
        return
    if is_own(arch):
        raise UserError(
            f"--arch {arch} has no published weights: name a checkpoint with --model_file"
        )
    if is_open_clip(arch):
        lacks_classes = True
    elif is_timm(arch):
        lacks_classes = _ENCODERS.search(arch) and not _TUNED.search(arch)
    else:
        lacks_classes = ARCHITECTURES[arch].head is None
    if lacks_classes:
        raise no_classes(arch)


def no_classes(arch: str) -> UserError:
    """Return the error for a network whose published weights score no classes."""
    texts = ", or --head zero_shot --classes FILE" if is_open_clip(arch) else ""
    return UserError(
        f"--arch {arch}: its published weights have no head of classes; {WITHOUT_CLASSES}{texts}, else "
        "choose a classifier (timm's names of classifiers end in _in1k, _in12k, ...)"
    )


def split_arch(arch: str) -> tuple[str, int | None]:
    """Split ``resnet18+512`` into (``resnet18``, 512); the dimension is None if it is no embedder."""
    backbone, plus, dim = arch.rpartition("+")
    if not plus or is_own(arch):
        return arch, None
    if not dim.isdecimal() or int(dim) < 1 or ("+" in backbone and not is_own(backbone)):
        raise UserError(f"{arch!r} is no embedder: write <backbone>+<dimension>, like resnet18+512")
    return backbone, int(dim)


def is_timm(arch: str) -> bool:
    return arch.startswith(TIMM)


def is_open_clip(arch: str) -> bool:
    return arch.startswith(OPEN_CLIP)


def _library_of(backbone: str) -> str | None:
    """Return the optional library that has the network; None if none is needed."""
    library = backbone.partition(":")[0]
    return library if is_timm(backbone) or is_open_clip(backbone) else None


_OWN = re.compile(r"(?P<file>.+\.py):(?P<function>[^\W\d]\w*)")


def is_own(backbone: str) -> bool:
    """Return whether ``backbone`` is ``FILE.py:FUNCTION``, a user's own network."""
    return _OWN.fullmatch(backbone) is not None


def own_file(backbone: str) -> tuple[Path, str]:
    """Return the file and the function that ``FILE.py:FUNCTION`` names."""
    found = _OWN.fullmatch(backbone)
    return Path(found["file"]), found["function"]


def recorded_name(arch: str) -> str:
    """Return ``arch`` as records and folders name it: a user's network without the file's folder."""
    backbone, dim = split_arch(arch)
    if not is_own(backbone):
        return arch
    file, function = own_file(backbone)
    return f"{file.name}:{function}" + (f"+{dim}" if dim else "")


def code_of(arch: str) -> str:
    """Return the SHA-256 of the file of a user's own network; empty for all others."""
    backbone, _ = split_arch(arch)
    return fingerprint(own_file(backbone)[0]) if is_own(backbone) else ""


def _check_function(backbone: str) -> None:
    """Raise ``UserError`` unless the file exists, is Python, and defines the function."""
    file, function = own_file(backbone)
    if not file.is_file():
        raise UserError(f"--arch {backbone}: missing file: {file}")
    try:
        statements = ast.parse(file.read_bytes()).body
    except (SyntaxError, ValueError) as error:
        raise UserError(f"--arch {backbone}: {file} is not Python: {error}") from error
    names = {of.name for of in statements if isinstance(of, ast.FunctionDef | ast.ClassDef)}
    names |= {
        alias.asname or alias.name
        for of in statements
        if isinstance(of, ast.ImportFrom)
        for alias in of.names
    }
    if function not in names:
        known = ", ".join(sorted(names)) or "none"
        raise UserError(f"--arch {backbone}: {file} has no function {function!r}; it has {known}")
