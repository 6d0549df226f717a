"""What the scripts share: their common options, one-line errors and exit codes."""

import argparse
import errno
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from src.artifacts.errors import UserError
from src.artifacts.experiments import PUBLISHED
from src.artifacts.fidelity import FIDELITIES, Fidelity

EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
EXIT_BROKEN_PIPE = 141


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Appends defaults, except where there is none or the help text says it in words."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and action.default is not False  # 0 is one
        unsaid = has_default and "(default" not in (action.help or "")
        return super()._get_help_string(action) if unsaid else action.help


class Parser(argparse.ArgumentParser):
    """An argument parser that shows defaults in ``--help`` and fails in one line."""

    def __init__(self, description: str, **options: Any) -> None:
        super().__init__(
            description=description,
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            **options,
        )

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message} (see python {self.prog} --help)\n")

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        arguments = sys.argv[1:] if args is None else args
        return super().parse_known_args(_join_detached_dashes(arguments), namespace)


def _join_detached_dashes(arguments: Sequence[str]) -> list[str]:
    """Read ``-- origin 774`` as ``--origin 774``: the published instructions print it that way."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--":
            joined[-1] += argument
        else:
            joined.append(argument)
    return joined


def add_common_options(
    parser: argparse.ArgumentParser, *, dataset: str, gpu: int | None = 0
) -> None:
    """``--dataset``, ``--root``, ``--force`` and, unless ``gpu`` is None, ``--gpu``."""
    parser.add_argument("--dataset", default=dataset, help="name of the folder below data/")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds data/")
    parser.add_argument(
        "--force", action="store_true", help="redo the stage even where its manifest matches"
    )
    if gpu is not None:
        parser.add_argument("--gpu", type=int, default=gpu, help="CUDA device; -1 is the CPU")


def add_fidelity_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fidelity",
        choices=sorted(FIDELITIES),
        default="corrected",
        help="corrected pipeline, or the published behaviour with its defects (see README)",
    )


def add_configuration_options(parser: argparse.ArgumentParser) -> None:
    """Which runs of a data set are summarised, where there are several trainings of a recommender."""
    parser.add_argument(
        "--epoch", type=int, help="use runs of this many epochs (default: the only ones there)"
    )
    parser.add_argument(
        "--fidelity",
        choices=sorted(FIDELITIES),
        help="use runs of this fidelity (default: the only ones there)",
    )
    parser.add_argument(
        "--options",
        nargs="+",
        metavar="TEXT",
        help="use runs whose names show these options, one or more such as lr0.05 and K8_lr0.05, or "
        f"{PUBLISHED} (default: the only ones there)",
    )


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Which network reads the images, at which size and precision."""
    parser.add_argument(
        "--defense", type=int, choices=(0, 1), default=0, help="0: undefended, 1: defended model"
    )
    parser.add_argument(
        "--model_dir", default="free_adv", help="folder of the defended model below models/"
    )
    parser.add_argument(
        "--model_file",
        default=None,
        help="checkpoint: with --defense 1 a file in models/<model_dir>/ (default model_best.pth.tar, "
        "or imagenet_linf_4.pt for madry), with --defense 0 a path whose weights replace ImageNet's",
    )
    parser.add_argument(
        "--arch",
        default=None,
        help="torchvision's resnet18, ..., c2f2, lenet, timm:NAME of the timm library, or an embedder "
        "such as resnet18+512 (default: the one recorded in the checkpoint, else resnet50)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "bf16", "fp16"),
        default="fp32",
        help="of the forward passes",
    )
    parser.add_argument(
        "--resize",
        type=int,
        default=None,
        help="side in pixels; 0 keeps native sizes (default: the one that the checkpoint was trained "
        "on, where it is recorded; else native where all images share one size, else 224)",
    )


def add_extractor_options(parser: argparse.ArgumentParser) -> None:
    """Which network reads the images, and how. Shared by the stages that classify."""
    add_model_options(parser)
    parser.add_argument(
        "--image_batch",
        type=int,
        default=None,
        help="images in one forward pass (default: 8 on the CPU, 128 on a GPU)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=None,
        help="threads that read images (default: 0 on the CPU, 8 on a GPU)",
    )


def model_dir_of(options: argparse.Namespace) -> str | None:
    """The folder that names a defended extractor's experiments; None for the undefended one."""
    return options.model_dir if options.defense else None


def fidelity_of(options: argparse.Namespace) -> Fidelity:
    return FIDELITIES[options.fidelity]


def number_list(text: str) -> list[float]:
    """Parse ``[0.01,1e-4,1e-3]``, with or without brackets, commas or spaces between numbers."""
    return [float(part) for part in text.strip().strip("[]()").replace(",", " ").split()]


def pixel_levels(text: str) -> float:
    """Parse a budget in grey levels: ``8``, ``8.0``, or the fraction of [0, 1] ``8/255``."""
    numerator, slash, denominator = text.partition("/")
    if not slash:
        return float(numerator)
    if not float(denominator):
        raise ValueError(f"{text} is no number")
    return float(numerator) * 255 / float(denominator)


def run(main: Callable[[], None]) -> int:
    """Call a script's ``main`` and turn what a user can cause into one line and an exit code."""
    try:
        main()
    except UserError as error:
        return _fail(" ".join(str(error).split()))
    except BrokenPipeError:
        # The reader of our output (head, say) has gone; point stdout at nothing, so that Python
        # does not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _fail(f"no space to write {error.filename or 'an artifact'}: {error.strerror}")
        return _fail(f"{error.filename or 'file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        print("interrupted: run the same command again to continue", file=sys.stderr)
        return EXIT_INTERRUPTED
    return os.EX_OK


def _fail(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return EXIT_BAD_INPUT
