"""Finished parts of a long stage, kept until the stage is whole."""

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from src.artifacts.atomic import PARTIAL_PREFIX, atomic_output
from src.artifacts.errors import UserError
from src.artifacts.manifest import Manifest


@dataclass(frozen=True)
class Parts:
    """A hidden folder of numbered parts, each a set of named arrays.

    Its name holds a digest of the stage's manifest, so the parts of a stage with other options or
    other inputs are never taken up.
    """

    folder: Path

    @classmethod
    def of(cls, manifest: Manifest, output: Path) -> "Parts":
        """The parts of ``output``, in the folder where it will stand."""
        description = json.dumps(asdict(manifest), sort_keys=True)
        digest = hashlib.sha256(description.encode()).hexdigest()[:16]
        return cls(output.with_name(f"{PARTIAL_PREFIX}{output.name}-{digest}"))

    def load(self, number: int) -> Mapping[str, np.ndarray] | None:
        """The arrays of part ``number``, or None where it is not finished."""
        path = self._path(number)
        if not path.exists():
            return None
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    def read(self, number: int) -> Mapping[str, np.ndarray]:
        """The arrays of part ``number``; ``UserError`` where it is not finished."""
        arrays = self.load(number)
        if arrays is None:
            raise UserError(
                f"{self._path(number)} is missing: do all processes see the same folder?"
            )
        return arrays

    def unfinished(self, n_parts: int) -> list[int]:
        """Which of the parts 0 to ``n_parts`` - 1 are left to do, in ascending order."""
        return [number for number in range(n_parts) if not self._path(number).exists()]

    def save(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        with atomic_output(self._path(number)) as temporary:
            np.savez(temporary, **arrays)

    def discard(self) -> None:
        """Remove the parts of this output, also those left by other options, once it is written."""
        stem, _, _ = self.folder.name.rpartition("-")
        for folder in self.folder.parent.glob(f"{stem}-*"):
            shutil.rmtree(folder, ignore_errors=True)

    def _path(self, number: int) -> Path:
        return self.folder / f"part_{number}.npz"
