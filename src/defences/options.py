"""Option ``--preprocess``, and names of experiments of a defended extractor."""

import argparse
from dataclasses import Field

from src.artifacts.errors import UserError
from src.artifacts.experiments import HEADS
from src.cli import require_defense
from src.defences.defence import NONE, Defence, parameters_of, reads_file
from src.defences.registry import DEFENCES, parse_defence


def add_preprocess_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--preprocess TEXT``, which is a ``Defence`` in the parsed options."""
    rows = ", ".join(
        f"{kind}:{','.join(map(_example, parameters_of(defence)))}".rstrip(":")
        for kind, defence in DEFENCES.items()
    )
    parser.add_argument(
        "--preprocess",
        type=_defence,
        default=NONE,
        metavar="TEXT",
        help=f"defence in front of the network, or several, joined by +: {rows}",
    )


def model_dir_of(options: argparse.Namespace) -> str | None:
    """Return the prefix of an extractor's experiments: its folder below models/, its head, its defence.

    None is the undefended extractor with its linear head and nothing in front of it. Others:
    ``dinov2``, ``dinov2-means``, ``free_adv.jpeg-quality50``; without a defended model ``means``.
    Raises ``UserError`` for a folder below models/ that is not read.
    """
    require_defense(options)
    model_dir = options.model_dir if options.defence else None
    parts = ["-".join(filter(None, (model_dir, HEADS[options.head])))]
    if options.preprocess.text != NONE:
        parts.append(options.preprocess.folder)
    return ".".join(filter(None, parts)) or None


def _example(of: Field) -> str:
    return "FILE" if reads_file(of) else f"{of.name}={of.default:g}"


def _defence(text: str) -> Defence:
    try:
        return parse_defence(text)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
