"""Content of folders, for tests that compare what two runs wrote."""

from pathlib import Path


def contents(folder: Path, *, without: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Return the bytes of all files below ``folder`` by path, but of those whose names end otherwise.

    ``without`` are those endings, such as ``.png``.
    """
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.endswith(without)
    }
