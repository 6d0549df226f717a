"""Images of an LMDB database are those that were put into it, and no pickle of it runs code."""

import importlib.util
import io
import os
import pickle

import numpy as np
import pytest
from PIL import Image

import prepare_dataset
from src.artifacts.layout import Layout
from src.cli import run
from src.datasets.image_files import read_image
from src.datasets.images import find_images

N_ITEMS = 4
PAIRS = "user,item\n" + "".join(f"u{u},i{i}\n" for u in range(3) for i in range(N_ITEMS))


class LMDB_Image:
    """Object that PixelRec's code pickles: ``size`` is (height, width), ``image`` are bytes."""

    def __init__(self, pixels, item):
        self.channels, self.size = pixels.shape[2], pixels.shape[:2]
        self.image, self.id = pixels.tobytes(), item


class Harmful:
    """Object whose pickle makes a folder when it is read."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder),)


def pixels_of(item):
    return np.random.default_rng(item).integers(0, 256, (8, 6 + item, 3), dtype=np.uint8)


def png(pixels):
    written = io.BytesIO()
    Image.fromarray(pixels).save(written, "PNG")
    return written.getvalue()


def put(path, values, **options):
    lmdb = pytest.importorskip("lmdb", reason="an optional library")
    database = lmdb.open(str(path), map_size=2**20, **options)
    with database, database.begin(write=True) as transaction:
        for key, value in values.items():
            transaction.put(key.encode(), value)
    return path


@pytest.fixture
def prepare(tmp_path, monkeypatch, capsys):
    """Run the script on a database; return the exit code and stderr."""
    (tmp_path / "pairs.csv").write_text(PAIRS)

    def call(images):
        words = ["folder", "--dataset", "shop", "--root", tmp_path, "--images", images]
        words += ["--interactions", tmp_path / "pairs.csv"]
        monkeypatch.setattr("sys.argv", ["prepare_dataset.py", *map(str, words)])
        return run(prepare_dataset.main), capsys.readouterr().err

    return call


def require_the_images(root):
    layout = Layout("shop", root)
    images = find_images(layout.images)
    for row in layout.item_map.read_text().splitlines()[1:]:
        number, original = row.split("\t")
        found = read_image(images[number])[0]
        np.testing.assert_array_equal(found, pixels_of(int(original.removeprefix("i"))))


def test_pixels_of_pixelrec_in_a_file(prepare, tmp_path):
    values = {
        f"i{item}": pickle.dumps(LMDB_Image(pixels_of(item), f"i{item}")) for item in range(N_ITEMS)
    }
    described = {"__keys__": pickle.dumps(list(values)), "__len__": pickle.dumps(N_ITEMS)}
    database = put(tmp_path / "image.lmdb", values | described, subdir=False)
    code, error = prepare(database)
    assert code == 0, error
    require_the_images(tmp_path)


def test_image_files_in_a_folder_of_a_database(prepare, tmp_path):
    database = put(
        tmp_path / "covers", {f"i{item}.png": png(pixels_of(item)) for item in range(N_ITEMS)}
    )
    code, error = prepare(database)
    assert code == 0, error
    require_the_images(tmp_path)


@pytest.mark.parametrize(
    "value",
    [
        lambda folder: pickle.dumps(Harmful(folder)),
        lambda folder: pickle.dumps({"image": b"123"}),
        lambda folder: pickle.dumps(LMDB_Image(pixels_of(0), "i0"))[:-40],
        lambda folder: b"text",
    ],
)
def test_another_value_is_one_line_and_does_nothing(prepare, tmp_path, value):
    made = tmp_path / "made"
    code, error = prepare(put(tmp_path / "bad.lmdb", {"i0": value(made)}, subdir=False))
    assert code == 2 and error.count("\n") == 1 and "i0 is neither an image file nor" in error
    assert not made.exists() and not Layout("shop", tmp_path).data.exists()


def test_what_is_no_database_is_one_line(prepare, tmp_path):
    path = tmp_path / "covers.lmdb"
    path.write_bytes(b"no database" * 1000)
    code, error = prepare(path)
    expected = "is no LMDB database" if importlib.util.find_spec("lmdb") else "pip install lmdb"
    assert code == 2 and error.count("\n") == 1 and expected in error
