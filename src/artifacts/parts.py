"""Finished parts of a long stage, kept until the stage is finished."""

import hashlib
import json
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from src.artifacts.arrays import read_arrays
from src.artifacts.atomic import PARTIAL_PREFIX, atomic_output
from src.artifacts.errors import UserError
from src.artifacts.manifest import Manifest


@dataclass(frozen=True)
class Parts:
    """Hidden folder of numbered parts, each with named arrays.

    Its name holds a digest of the stage's manifest, so that a stage never continues from parts that
    were made with other options or inputs.
    """

    folder: Path

    @classmethod
    def of(cls, manifest: Manifest, output: Path) -> "Parts":
        """Return the parts of ``output``, in the folder of ``output``."""
        made_of = {name: getattr(manifest, name) for name in ("stage", "options", "inputs")}
        description = json.dumps(made_of, sort_keys=True)
        digest = hashlib.sha256(description.encode()).hexdigest()[:16]
        return cls(output.with_name(f"{PARTIAL_PREFIX}{output.name}-{digest}"))

    def load(self, number: int) -> Mapping[str, np.ndarray] | None:
        """Return the arrays of part ``number``, or None if it is not finished.

        A damaged part is deleted, so that the stage makes it again, and a line on stderr names it.
        """
        path = self._path(number)
        if not path.exists():
            return None
        try:
            return read_arrays(path)
        except UserError:
            print(f"{path} is damaged and is made again", file=sys.stderr)
            path.unlink(missing_ok=True)
            return None

    def read(self, number: int) -> Mapping[str, np.ndarray]:
        """Return the arrays of part ``number``; ``UserError`` if it is not finished."""
        arrays = self.load(number)
        if arrays is None:
            raise UserError(
                f"{self._path(number)} is missing: do all processes see the same folder?"
            )
        return arrays

    def unfinished(self, n_parts: int) -> list[int]:
        """Return the numbers of the parts 0 to ``n_parts`` - 1 that are left, in ascending order.

        Parts are read, since a damaged one is left as well.
        """
        return [number for number in range(n_parts) if self.load(number) is None]

    def save(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        with atomic_output(self._path(number)) as temporary:
            np.savez(temporary, **arrays)

    def discard(self) -> None:
        """Remove all parts of this output, including those that other options left."""
        stem, _, _ = self.folder.name.rpartition("-")
        for folder in self.folder.parent.glob(f"{stem}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"part_{number}.npz"
