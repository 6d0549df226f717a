"""Product images of a source: search, checks, downloads and copies into a data set."""

import http.client
import io
import os
import shutil
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.progress import progress_bar
from src.datasets.image_files import SUFFIXES, image_files, read_image
from src.datasets.shards import ImagePath, archived_images

OK = "ok"
NO_IMAGE = "no image"
UNREADABLE = "not a readable image"
SUFFIX_OF_FORMAT = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp", "BMP": ".bmp", "TIFF": ".tiff"}
_LARGEST_DOWNLOAD = 64 * 2**20
_TIMEOUT_S = 30.0


def find_images(folder: Path) -> dict[str, ImagePath]:
    """Return the image of every item in ``folder``: name without suffix -> file or member of an archive.

    If the folder itself holds no image, its subfolders at any depth do, as in H&M's ``images/010/``, or
    else the tar archives in it. Raises ``UserError`` if the folder is missing or empty, or an item has
    two images.
    """
    if not folder.is_dir():
        raise UserError(f"no image folder at {folder}")
    found: dict[str, ImagePath] = {}
    files = image_files(folder)
    if not files:
        files = [path for inner in folder.rglob("*/") for path in image_files(inner)]
    for path in sorted(files or archived_images(folder, SUFFIXES)):
        if path.stem in found:
            raise UserError(f"{folder} has two images of item {path.stem}")
        found[path.stem] = path
    if not found:
        raise UserError(f"no images in {folder}")
    return found


def check_images(images: Mapping[str, ImagePath]) -> dict[str, str]:
    """Decode every image and return item -> reason for the unreadable ones."""
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        reasons = pool.map(_defect, images.values())
        progress = progress_bar(reasons, "checking images", len(images), unit="image")
        return {item: reason for item, reason in zip(images, progress, strict=True) if reason}


def _defect(path: ImagePath) -> str | None:
    try:
        read_image(path)
    except UserError:
        return UNREADABLE
    return None


def link_or_copy(source: Path, destination: Path) -> None:
    """Make a hard link if the file system allows it, otherwise a copy."""
    try:
        os.link(source.resolve(), destination)
    except OSError:
        shutil.copyfile(source, destination)


@dataclass(frozen=True)
class Downloads:
    """Folder of downloaded images; images that it already holds are not fetched again."""

    folder: Path
    attempts: int = 5
    """Number of requests to a server that is busy or unreachable."""
    first_wait_s: float = 1.0
    """Pause after the first failure; each further pause is twice as long."""
    workers: int = 16

    def fetch(self, urls: Mapping[str, str | None]) -> tuple[dict[str, Path], dict[str, str]]:
        """Fetch the image of each item.

        Returns item -> file for the images that were fetched, and item -> ``OK`` or the reason of the
        failure for all items. A repeated call fetches only the images that are missing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        present = {urllib.parse.unquote(path.stem): path for path in self._files()}
        statuses = {item: NO_IMAGE if url is None else OK for item, url in urls.items()}
        wanted = {item: url for item, url in urls.items() if url and item not in present}
        with ThreadPoolExecutor(self.workers) as pool:
            try:
                outcomes = pool.map(self._fetch_one, wanted, wanted.values())
                progress = progress_bar(outcomes, "downloading", len(wanted), unit="image")
                for item, outcome in zip(wanted, progress, strict=True):
                    if isinstance(outcome, Path):
                        present[item] = outcome
                    else:
                        statuses[item] = outcome
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return {item: present[item] for item in urls if item in present}, statuses

    def _files(self) -> Iterable[Path]:
        return (path for path in self.folder.iterdir() if not path.name.startswith("."))

    def _fetch_one(self, item: str, url: str) -> Path | str:
        """Return the file, or the reason why there is none."""
        if urllib.parse.urlsplit(url).scheme not in ("http", "https"):
            return "not a web address"
        try:
            content = _with_retries(lambda: _get(url), self.attempts, self.first_wait_s)
        except urllib.error.HTTPError as error:
            return f"HTTP {error.code}"
        except (OSError, http.client.HTTPException, ValueError) as error:
            return " ".join(f"unreachable: {getattr(error, 'reason', error)}".split())
        try:
            with Image.open(io.BytesIO(content)) as image:
                image.convert("RGB")
                suffix = SUFFIX_OF_FORMAT.get(image.format or "")
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
            return UNREADABLE
        if suffix is None:
            return "not a JPEG, PNG, WebP, BMP or TIFF image"
        # Quoted, because an item id may hold characters that a file name must not have.
        path = self.folder / (urllib.parse.quote(item, safe="") + suffix)
        with atomic_output(path) as temporary:
            temporary.write_bytes(content)
        return path


def _get(url: str) -> bytes:
    request = urllib.request.Request(
        url, headers={"User-Agent": "Mozilla/5.0 (dataset preparation)"}
    )
    with urllib.request.urlopen(request, timeout=_TIMEOUT_S) as response:
        content = response.read(_LARGEST_DOWNLOAD + 1)
    if len(content) > _LARGEST_DOWNLOAD:
        raise ValueError("larger than 64 MiB")
    if response.length:
        raise http.client.IncompleteRead(content, response.length)
    return content


def _with_retries(get: Callable[[], bytes], attempts: int, first_wait_s: float) -> bytes:
    """Call ``get`` and repeat it after growing pauses as long as the failure may be temporary."""
    for attempt in range(attempts):
        try:
            return get()
        except (OSError, http.client.HTTPException) as error:  # URLError is an OSError
            passes = not isinstance(error, urllib.error.HTTPError) or error.code in (408, 425, 429)
            passes |= isinstance(error, urllib.error.HTTPError) and error.code >= 500
            if not passes or attempt == attempts - 1:
                raise
            time.sleep(first_wait_s * 2**attempt)
    raise AssertionError("attempts must be at least 1")
