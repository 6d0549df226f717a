"""List published networks with their accuracies, or measure the accuracies of one again."""

import argparse
import subprocess
import sys
from pathlib import Path

from src.artifacts.errors import UserError
from src.cli import Parser, add_gpu_option, require_counts, run
from src.extractors.published import PublishedNetwork, published_network, published_networks
from src.extractors.zoo import check_name

COLUMNS = (
    "name",
    "arch",
    "data",
    "clean",
    "robust",
    "attack",
    "eps",
    "sha256",
    "licence",
    "source",
    "weights",
)
OWN = "FILE.py:FUNCTION"


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument(
        "--verify", metavar="NAME", help="measure the network NAME of the list again"
    )
    parser.add_argument("--model_file", type=Path, help="with --verify: its checkpoint")
    parser.add_argument("--data", type=Path, help="with --verify: images with labels")
    parser.add_argument(
        "--part",
        choices=("test", "all"),
        default="test",
        help="all: --data is a test set as a whole (default: test)",
    )
    parser.add_argument(
        "--arch", help=f"with --verify: the authors' network, where the list says {OWN}"
    )
    parser.add_argument("--max_images", type=int, help="number of random images (default: all)")
    add_gpu_option(parser)
    parser.add_argument("--out", type=Path, help="table to write (default: results/zoo/<NAME>.tsv)")
    return parser.parse_args()


def main() -> None:
    options = parse_options()
    require_counts(options, "max_images")
    if options.verify is None:
        for name in ("model_file", "data", "arch", "max_images", "out"):
            if getattr(options, name) is not None:
                raise UserError(f"--{name} belongs to --verify")
        print(overview())
        return
    verify(published_network(options.verify), options)


def overview() -> str:
    """Return the table as text; empty fields are not published or not known."""
    from src.measures.terminal import format_table

    rows = [
        ["" if (value := getattr(row, of)) is None else str(value) for of in COLUMNS]
        for row in published_networks()
    ]
    return format_table(COLUMNS, rows)


def verify(network: PublishedNetwork, options: argparse.Namespace) -> None:
    """Measure with ``audits.robustness`` and print the results beside the published ones.

    Raises ``UserError`` if something is missing, or if the checkpoint is another one.
    """
    if network.clean is None:
        raise UserError(f"{network.name} has no published accuracy, so that none can be verified")
    if options.model_file is None or options.data is None:
        raise UserError(f"--verify {network.name} needs --model_file FILE and --data PATH")
    if options.arch is None and network.arch == OWN:
        raise UserError(f"--verify {network.name} needs the authors' network: --arch {OWN}")
    arch = check_name(options.arch or network.arch)
    network.check_file(options.model_file)
    out = options.out or Path("results") / "zoo" / f"{network.name}.tsv"
    # ImageNet has no layout of its own: a folder of pictures for each class.
    layout = "folder" if network.data == "imagenet" else network.data
    command = ["--dataset", layout, "--data", options.data, "--part", options.part]
    command += ["--checkpoint", options.model_file, "--arch", arch, "--gpu", options.gpu]
    command += ["--label", network.name, "--out", out]
    # The table of the audit is in percent of the images, first without an attack.
    command += ["--attacks", "clean", *([network.attack] if network.attack else [])]
    command += ["--eps", network.eps] if network.eps else []
    command += ["--max_images", options.max_images] if options.max_images else []
    audit = [sys.executable, "-m", "audits.robustness", *map(str, command)]
    if code := subprocess.run(audit, check=False).returncode:
        sys.exit(code)
    print(f"\n{comparison(network, out)}")


def comparison(network: PublishedNetwork, table: Path) -> str:
    """Return a line for each published accuracy, beside the measured one and its 95 % interval."""
    from src.measures.robust_accuracy import read_table

    rows = read_table(table).set_index("attack")
    published = {"clean": network.clean, network.attack: network.robust}
    return "\n".join(
        f"{attack}: {row.accuracy:.2f} % of {row.n} images [{row.low:.2f}, {row.high:.2f}], published "
        f"{value:.2f} %, {'within' if row.low <= value <= row.high else 'outside'} the interval"
        for attack, value in published.items()
        if value is not None
        for row in [rows.loc[attack]]
    )


if __name__ == "__main__":
    sys.exit(run(main))
