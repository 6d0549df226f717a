"""Keep the tensors of a checkpoint that holds more than tensors, so that it can be read safely."""

import sys
from pathlib import Path

from src.artifacts.errors import UserError
from src.cli import Parser, run


def main() -> None:
    parser = Parser(__doc__)
    parser.add_argument("source", type=Path, help="checkpoint to read, written by torch.save")
    parser.add_argument(
        "out",
        type=Path,
        help="checkpoint to write: tensors, numbers and strings only; a file named .safetensors holds "
        "the tensors of the state dict alone",
    )
    parser.add_argument(
        "--i_trust_this_file",
        action="store_true",
        help="unpickle it: classes and functions are replaced by stand-ins that do nothing, but a "
        "pickle made to harm can still fill the memory",
    )
    options = parser.parse_args()
    if not options.i_trust_this_file:
        raise UserError(
            f"{options.source} will be unpickled: add --i_trust_this_file if you trust it"
        )

    from src.extractors.conversion import convert

    dropped = convert(options.source, options.out)
    print(f"left out: {', '.join(dropped) or 'nothing'}")
    print(f"written: {options.out}")


if __name__ == "__main__":
    sys.exit(run(main))
