"""Common options, one-line errors and exit codes of the scripts."""

from src.interrupts import EXIT_INTERRUPTED, INTERRUPTED, stems_from_interrupt

import argparse
import copy
import errno
import os
import shlex
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, NoReturn

from src import __version__
from src.artifacts.errors import UserError, choose_from, did_you_mean
from src.artifacts.experiments import CLASS_MEANS, HEADS, LINEAR, PUBLISHED, ZERO_SHOT
from src.artifacts.fidelity import FIDELITIES, Fidelity
from src.artifacts.layout import Layout
from src.artifacts.manifest import ACCEPT_CHANGED
from src.artifacts.program import program

EXIT_UNEXPECTED = 1
EXIT_BAD_INPUT = 2
EXIT_BROKEN_PIPE = 141
EXIT_TERMINATED = 143

LOGS = Path("logs")
"""Folder of the traces of unexpected errors, in the folder in which a script runs."""
DEFENDED = "free_adv"
"""Folder of the defended model that the paper attacks."""
DEFAULT_DATASET = "amazon_men"
"""Data set of every script that is not told another one: the first one of the paper."""
DEFAULT_MAX_PIXELS = 89_478_485
"""Largest image that is read, width times height: 256 MiB of RGB, as in Pillow."""
_LARGEST_MAX_PIXELS = 2**32
LARGEST_SEED = 2**32 - 1


class _HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """Formatter that appends defaults, unless there is none or the help text says it in words.

    It shows each option by its one name. The published names beside it are in docs/reference.md.
    """

    def _format_action_invocation(self, action: argparse.Action) -> str:
        shown = copy.copy(action)
        long = [name for name in action.option_strings if name.startswith("--")]
        shown.option_strings = [name for name in action.option_strings if name not in long[1:]]
        return super()._format_action_invocation(shown)

    def _get_help_string(self, action: argparse.Action) -> str | None:
        has_default = action.default is not None and action.default is not False  # 0 is a default
        unsaid = has_default and "(default" not in (action.help or "")
        return super()._get_help_string(action) if unsaid else action.help


class Parser(argparse.ArgumentParser):
    """Argument parser that shows defaults in ``--help`` and fails in one line."""

    def __init__(self, description: str, *, prog: str | None = None, **options: Any) -> None:
        super().__init__(
            description=description,
            prog=prog or " ".join(program()),
            formatter_class=_HelpFormatter,
            allow_abbrev=False,
            **options,
        )
        self.add_argument(
            "--version", action="version", version=f"VAR {__version__}", help="show the version"
        )

    def error(self, message: str) -> NoReturn:
        self.exit(EXIT_BAD_INPUT, f"error: {message} (see {self.prog} --help)\n")

    def parse_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        arguments = _join_detached_dashes(sys.argv[1:] if args is None else args)
        self._require_known(arguments)
        return super().parse_args(arguments, namespace)

    def parse_known_args(
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        arguments = sys.argv[1:] if args is None else args
        return super().parse_known_args(_join_detached_dashes(arguments), namespace)

    def _require_known(self, arguments: Sequence[str]) -> None:
        """End with a line about the first unknown option, and the known one nearest to it."""
        known = set(self._option_string_actions)
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                commands = set(arguments) & set(action.choices)
                for command in commands or action.choices:  # argparse complains of a wrong command
                    known |= set(action.choices[command]._option_string_actions)
        for argument in arguments:
            option = argument.partition("=")[0]
            if option.startswith("--") and option not in known:
                self.error(f"unknown option {option}{did_you_mean(option, known)}")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """End with a line about a value that is none of the choices, and the choice nearest to it."""
        if action.choices is not None and value not in action.choices:
            choices = choose_from(str(value), map(str, action.choices))
            raise argparse.ArgumentError(action, f"invalid choice {str(value)!r}: {choices}")


def _join_detached_dashes(arguments: Sequence[str]) -> list[str]:
    """Read ``-- origin 774`` as ``--origin 774``, since the published instructions print it so."""
    joined: list[str] = []
    for argument in arguments:
        if joined and joined[-1] == "--":
            joined[-1] += argument
        else:
            joined.append(argument)
    return joined


def add_common_options(
    parser: argparse.ArgumentParser, *, dataset: str = DEFAULT_DATASET, gpu: int | None = 0
) -> None:
    """Add ``--dataset``, ``--root``, ``--force`` and, unless ``gpu`` is None, ``--gpu``."""
    parser.add_argument("--dataset", default=dataset, help="name of the folder below data/")
    parser.add_argument("--root", type=Path, default=Path(), help="folder that holds data/")
    add_force_option(parser)
    if gpu is not None:
        add_gpu_option(parser, gpu)


def add_force_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--force``, and the option that accepts inputs which were changed by hand."""
    parser.add_argument(
        "--force", action="store_true", help="run the stage even if its manifest matches"
    )
    parser.add_argument(
        ACCEPT_CHANGED,
        action="store_true",
        help="use inputs that were changed after a command of this project wrote them; their names are "
        "printed and recorded",
    )


def add_out_option(parser: argparse._ActionsContainer, default: str) -> None:
    """Add ``--out``, the name of an audit's results among those of the data set."""
    parser.add_argument(
        "--out",
        "--output",
        default=default,
        metavar="NAME",
        help="name of the results in results/<dataset>/",
    )


def add_gpu_option(parser: argparse.ArgumentParser, default: int = 0) -> None:
    parser.add_argument("--gpu", type=int, default=default, help="CUDA device; -1 is the CPU")


def add_seed_option(
    parser: argparse._ActionsContainer, seeded: str = "of every random choice"
) -> None:
    """Add ``--seed``; ``seeded`` names the random choices that it decides."""
    parser.add_argument("--seed", type=seed_number, default=0, help=seeded)


def seed_number(text: str) -> int:
    """Parse a seed, which every library takes: 0 to 2^32 - 1."""
    if not 0 <= (seed := int(text)) <= LARGEST_SEED:
        raise argparse.ArgumentTypeError(f"must be 0 to {LARGEST_SEED}")
    return seed


def number_of_pixels(text: str) -> int:
    """Parse a number of pixels: at least 1, and at most what fits into the memory of large machines."""
    if not 1 <= (number := int(text)) <= _LARGEST_MAX_PIXELS:
        raise argparse.ArgumentTypeError(f"must be 1 to {_LARGEST_MAX_PIXELS}")
    return number


def number_of_readers(text: str) -> int:
    """Parse a number of threads that read images: at most the cores of this machine."""
    cores = os.cpu_count() or 1
    if not 0 <= (number := int(text)) <= cores:
        raise argparse.ArgumentTypeError(f"must be 0 to {cores}, the cores of this machine")
    return number


def add_fidelity_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--fidelity",
        choices=sorted(FIDELITIES),
        default="corrected",
        help="corrected pipeline, or the published behaviour with its defects (docs/reference.md)",
    )


def add_configuration_options(parser: argparse.ArgumentParser) -> None:
    """Add options that choose the runs to summarise among several trainings of a recommender."""
    parser.add_argument(
        "--epochs",
        "--epoch",
        type=int,
        help="use runs of this many epochs (default: the only ones there)",
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


def add_trainings_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--trainings",
        nargs="+",
        default=[],
        metavar="DATASET",
        help="data sets with the same runs on other trainings of the extractors: effects, intervals "
        "and verdicts are over all of them",
    )


def layouts_of(options: argparse.Namespace) -> list[Layout]:
    """Return the data sets of ``--dataset`` and ``--trainings``; ``UserError`` unless all are there."""
    names = [options.dataset, *options.trainings]
    if len(set(names)) < len(names):
        raise UserError("--trainings: a data set is named twice")
    layouts = [Layout(name, options.root) for name in names]
    for layout in layouts:
        layout.require_data()
    return layouts


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Add options of the network that reads the images, with its size and precision."""
    parser.add_argument(
        "--defence",
        "--defense",
        type=int,
        choices=(0, 1),
        default=0,
        help="0: undefended, 1: defended model",
    )
    parser.add_argument(
        "--model_dir", default=DEFENDED, help="folder of the defended model below models/"
    )
    parser.add_argument(
        "--model_file",
        default=None,
        help="checkpoint: with --defence 1 a file in models/<model_dir>/ (default model_best.pth.tar, "
        "or imagenet_linf_4.pt for madry), with --defence 0 a path whose weights replace ImageNet's",
    )
    parser.add_argument(
        "--arch",
        default=None,
        help="torchvision's resnet18, ..., c2f2, lenet, timm:NAME of the timm library, FILE.py:FUNCTION "
        "for a network of your own, or an embedder such as resnet18+512 (default: the one recorded in "
        "the checkpoint, or by stage 1 of the same network, else resnet50)",
    )
    parser.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16", "fp16"),
        default="fp32",
        help="precision of the passes; tf32 is a GPU's alone",
    )
    parser.add_argument(
        "--resize",
        type=int,
        default=None,
        help="side in pixels; 0 keeps native sizes (default: the size that the checkpoint was "
        "trained on, if it is recorded; else the native size if all images share one, else 224)",
    )


def require_precision(precision: str, *, on_cpu: bool) -> None:
    """Raise ``UserError`` for a precision that the device does not have."""
    if precision == "tf32" and on_cpu:
        raise UserError("--precision tf32 needs a CUDA device: a CPU has no TF32")


def require_decoder(decoder: str, *, on_cpu: bool) -> None:
    """Raise ``UserError`` for a decoder of image files that the device does not have."""
    if decoder == "gpu" and on_cpu:
        raise UserError("--decoder gpu needs a CUDA device: use --decoder pillow")


def require_defense(options: argparse.Namespace) -> None:
    """Raise ``UserError`` for a ``--model_dir`` that is given without ``--defence 1``."""
    if not options.defence and options.model_dir != DEFENDED:
        raise UserError(f"--model_dir {options.model_dir} is read with --defence 1 only: add it")


def add_extractor_options(parser: argparse.ArgumentParser) -> None:
    """Add options of the network that reads the images, shared by the stages that classify."""
    add_model_options(parser)
    add_head_options(parser)
    parser.add_argument(
        "--batch",
        "--image_batch",
        type=int,
        default=None,
        help="images in one forward pass (default: 8 on the CPU, 128 on a GPU)",
    )
    parser.add_argument(
        "--max_pixels",
        type=number_of_pixels,
        default=DEFAULT_MAX_PIXELS,
        help="largest image, width times height, that is read",
    )
    parser.add_argument(
        "--workers",
        type=number_of_readers,
        default=None,
        help="threads that read images (default: 0 on the CPU, 8 on a GPU)",
    )


def add_head_options(parser: argparse.ArgumentParser) -> None:
    """Add options of the head that scores the features of the network."""
    parser.add_argument(
        "--head",
        choices=tuple(HEADS),
        default=LINEAR,
        help="linear: the classes of the checkpoint; class_means: the class of --classes whose mean of "
        "features is nearest; zero_shot: the class of --classes whose name is nearest (open_clip); none: "
        "features alone, classes are those of --classes",
    )
    parser.add_argument(
        "--classes",
        type=Path,
        metavar="FILE",
        help="with all other heads than linear: CSV of item and category, the shop's own classes; they "
        "are numbered in the order of their names",
    )


def extractor_options(model_dir: str | None) -> str:
    """Return the options of stage 3 for the extractor that ``model_dir_of`` names ``model_dir``."""
    folder, head = model_dir or "", ""
    for of, suffix in HEADS.items():
        if suffix and f"-{folder}".endswith(f"-{suffix}"):
            folder = folder.removesuffix(suffix).removesuffix("-")
            attackable = ZERO_SHOT if of == ZERO_SHOT else CLASS_MEANS
            head = f" --head {attackable} --classes FILE"
    return (f"--defence 1 --model_dir {folder}" if folder else "--defence 0") + head


def add_checkpoint_options(parser: argparse.ArgumentParser, network: str) -> None:
    """Add options of a checkpoint, in place of those of ``add_model_options``, and of its batches."""
    parser.add_argument(
        "--checkpoint", type=Path, help=f"the {network}, instead of --defence and --model_*"
    )
    parser.add_argument("--batch", type=int, help="images in one forward pass (default: by size)")


def add_picture_options(parser: argparse._ActionsContainer) -> None:
    """Add options of a folder of pictures and the table of their labels."""
    parser.add_argument("--images", type=Path, help="folder of pictures <item>.png")
    parser.add_argument("--labels", type=Path, help="CSV of --images: item, category, label")


def require_counts(options: argparse.Namespace, *names: str) -> None:
    """Raise ``UserError`` for an option that is given and below 1."""
    for name in names:
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1")


def require_not_negative(options: argparse.Namespace, *names: str) -> None:
    """Raise ``UserError`` for an option that is given and below 0."""
    for name in names:
        if (getattr(options, name) or 0) < 0:
            raise UserError(f"--{name} must not be negative")


def require_within_lists(ks: Iterable[int], length: int) -> None:
    """Raise ``UserError`` for the first K that lists of ``length`` items do not reach."""
    for k in ks:
        if not 1 <= k <= length:
            raise UserError(f"K = {k} is not within the lists: it must be 1 to {length}")


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


class Terminated(KeyboardInterrupt):
    """The process was asked to end (SIGTERM): it removes its unfinished files as after Ctrl-C."""


def run(main: Callable[[], None]) -> int:
    """Call a script's ``main``; turn what it raises into one line and an exit code.

    Mistakes of the user and failures of files are 2. Any other error is 1: the line names the file in
    ``LOGS`` that holds its trace. Tests call ``main`` itself, and see the trace.
    """
    if threading.current_thread() is not threading.main_thread():  # others cannot set handlers
        return _exit_code(main)
    before = signal.signal(signal.SIGTERM, _terminate)
    try:
        return _exit_code(main)
    finally:
        signal.signal(signal.SIGTERM, before)


def _exit_code(main: Callable[[], None]) -> int:
    """Call ``main`` and return the exit code; an error is printed as one line."""
    try:
        main()
    except UserError as error:
        return _fail(str(error))
    except BrokenPipeError:
        # A reader of the output, such as head, has ended. Stdout becomes the null device, so that
        # Python does not complain when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_BROKEN_PIPE
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return _fail(f"no space to write {error.filename or 'an artifact'}: {error.strerror}")
        return _fail(f"{error.filename or 'file'}: {error.strerror or error}")
    except Terminated:
        print("terminated: run the same command again to continue", file=sys.stderr)
        return EXIT_TERMINATED
    except (KeyboardInterrupt, Exception) as error:
        if stems_from_interrupt(error):
            print(INTERRUPTED, file=sys.stderr)
            return EXIT_INTERRUPTED
        if _is_out_of_memory(error):
            return _fail(
                "there is not enough memory: choose smaller batches or fewer items, or free some "
                f"({str(error) or type(error).__name__})"
            )
        return _fail(_unexpected(error), EXIT_UNEXPECTED)
    return os.EX_OK


def _terminate(*_: object) -> NoReturn:
    raise Terminated


def gpu_lacks_memory(error: Exception) -> bool:
    """Return whether a GPU lacked memory; the frameworks need not be loaded.

    torch and TensorFlow have an error of their own for tensors. CUDA, cuBLAS and cuDNN say it in words,
    and so does TensorFlow where it copies data to the GPU.
    """
    kinds = {kind.__name__ for kind in type(error).__mro__}
    words = ("CUDA error: out of memory", "_STATUS_ALLOC_FAILED", "Dst tensor is not initialized")
    return bool(kinds & {"OutOfMemoryError", "ResourceExhaustedError"}) or any(
        said in str(error) for said in words
    )


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether Python, torch or TensorFlow lacked memory; the frameworks need not be loaded."""
    of_cpu = isinstance(error, RuntimeError) and "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or of_cpu or gpu_lacks_memory(error)


def _unexpected(error: Exception) -> str:
    """Write the trace of ``error`` to ``LOGS``, and return the line that names the file."""
    trace = "".join(traceback.format_exception(error))
    command = shlex.join([*program(), *sys.argv[1:]])
    name = f"{Path(sys.argv[0]).stem}-{datetime.now():%Y%m%d-%H%M%S}-{os.getpid()}.log"
    first = f"unexpected {type(error).__name__}: {error}"
    try:
        LOGS.mkdir(exist_ok=True)
        (LOGS / name).write_text(f"{command}\n\n{trace}")
    except OSError:
        print(trace, file=sys.stderr)
        return f"{first}; please report it with the trace above"
    return f"{first}; please report it with {LOGS / name}, which holds the trace"


def _fail(message: str, code: int = EXIT_BAD_INPUT) -> int:
    """Print ``message`` as one line and return ``code``."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code
