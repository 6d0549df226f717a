"""Layouts of labelled images in small files; every error is one line."""

import gzip
import pickle
import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import savemat

from src.artifacts.classes import Classes, write_classes
from src.artifacts.errors import UserError
from src.datasets.image_set import ImageArray, ImageSet
from src.datasets.image_splitting import random_halves
from src.datasets.retrieval import LAYOUTS, RetrievalSet, open_retrieval_set
from tests.real_data import REAL_DATA


def names(part: ImageSet) -> list[str]:
    """Return file names with the names of their folders."""
    return ["/".join(path.parts[-2:]) for path in part.store.paths]


def paint(path: Path, shade: int, size: tuple[int, int] = (40, 20), mode: str = "RGB") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, (shade, 0, 255 - shade) if mode == "RGB" else shade).save(path)


def idx(values: np.ndarray) -> bytes:
    return struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape) + values.tobytes()


def digits(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    pixels = generator.integers(0, 256, (n, 28, 28), dtype=np.uint8)
    return pixels, generator.permutation(np.arange(n, dtype=np.uint8) % 10)


PARTS = {"train": digits(30, 0), "t10k": digits(20, 1)}


def write_idx(folder: Path, packed: bool) -> None:
    folder.mkdir(parents=True)
    for part, (pixels, labels) in PARTS.items():
        for name, values in {"images-idx3": pixels, "labels-idx1": labels}.items():
            path = folder / f"{part}-{name}-ubyte{'.gz' if packed else ''}"
            path.write_bytes(gzip.compress(idx(values)) if packed else idx(values))


def assert_digits(found: RetrievalSet) -> None:
    for part, (pixels, classes) in zip((found.train, found.test), PARTS.values(), strict=True):
        assert np.array_equal(part.pixels(), pixels[..., None])
        assert part.classes.dtype == np.int64
        assert part.classes.tolist() == classes.tolist()
    assert found.test.side == found.train.side == 28
    assert found.train.labels == found.test.labels


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST"), ("fashion", "FashionMNIST")])
def test_mnist_in_torchvisions_raw_layout(name, folder, packed, tmp_path, capsys):
    write_idx(tmp_path / folder / "raw", packed)
    for path in (tmp_path, tmp_path / folder, tmp_path / folder / "raw"):
        found = open_retrieval_set(name, path)
        assert_digits(found)
    (warning, *_) = capsys.readouterr().err.splitlines()
    assert "30 training and 20 test images" in warning and "60000 and 10000" in warning
    assert found.test.labels[9] == {"mnist": "9", "fashion": "Ankle boot"}[name]


def test_mnist_as_torchvision_reads_it(tmp_path):
    mnist = pytest.importorskip("torchvision.datasets.mnist")
    write_idx(tmp_path / "raw", packed=False)
    found = open_retrieval_set("mnist", tmp_path)
    images = mnist.read_image_file(str(tmp_path / "raw" / "t10k-images-idx3-ubyte"))
    labels = mnist.read_label_file(str(tmp_path / "raw" / "t10k-labels-idx1-ubyte"))
    assert np.array_equal(found.test.pixels()[..., 0], images.numpy())
    assert np.array_equal(found.test.classes, labels.numpy())


def test_an_archive_of_arrays(tmp_path):
    (x_train, y_train), (x_test, y_test) = PARTS.values()
    path = tmp_path / "fashion.npz"
    np.savez(
        path, x_train=x_train, y_train=y_train[:, None], x_test=x_test[..., None], y_test=y_test
    )
    assert_digits(open_retrieval_set("fashion", path))
    np.savez(path, x=x_train, y=y_train)
    found = open_retrieval_set("mnist", path)
    assert (len(found.train), len(found.test)) == (20, 10)
    assert np.bincount(found.test.classes).tolist() == [1] * 10  # of three, two are for training
    together = np.concatenate([found.train.pixels(), found.test.pixels()])
    assert sorted(map(bytes, together)) == sorted(map(bytes, x_train))


def test_wrong_arrays_are_named(tmp_path):
    (x, y), path = PARTS["train"], tmp_path / "set.npz"

    def problem(**arrays) -> str:
        np.savez(path, **arrays)
        with pytest.raises(UserError) as error:
            open_retrieval_set("mnist", path)
        assert str(path) in str(error.value)
        return str(error.value)

    assert "neither x_train" in problem(x_train=x, y_train=y)
    assert "float64" in problem(x=x / 255, y=y)
    assert "not square" in problem(x=x[:, :20], y=y)
    assert "30 images but classes are uint8 (29,)" in problem(x=x, y=y[1:])
    assert "classes must be 0 to 9" in problem(x=x, y=y + 1)
    assert "classes are float64" in problem(x=x, y=y * 1.0)
    assert "there are no images" in problem(x=x[:0], y=y[:0])
    assert "there are no images" in problem(x_train=x, y_train=y, x_test=x[:0], y_test=y[:0])
    assert "classes are uint8 ()" in problem(x=x, y=y[0])
    assert "not an archive of plain" in problem(x=np.array([{}]), y=y)
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(UserError, match="not an archive of plain"):
        open_retrieval_set("mnist", path)


def test_damaged_idx_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"no train-images-idx3-ubyte in .*MNIST/raw"):
        open_retrieval_set("mnist", tmp_path)
    write_idx(tmp_path / "MNIST" / "raw", packed=True)
    images = tmp_path / "MNIST" / "raw" / "t10k-images-idx3-ubyte.gz"
    content = images.read_bytes()
    images.write_bytes(content[:-100])
    with pytest.raises(UserError, match=r"t10k-images-idx3-ubyte\.gz is damaged"):
        open_retrieval_set("mnist", tmp_path)
    for broken in (idx(PARTS["t10k"][0])[:-1], b"", idx(PARTS["t10k"][1])):
        images.write_bytes(gzip.compress(broken))
        with pytest.raises(UserError, match="not an idx file of 3 dimensions"):
            open_retrieval_set("mnist", tmp_path)
    images.unlink()
    with pytest.raises(UserError, match="missing file"):
        open_retrieval_set("mnist", tmp_path)


def colours(n: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, 32, 32, 3), dtype=np.uint8)


def planes(pixels: np.ndarray) -> np.ndarray:
    return pixels.transpose(0, 3, 1, 2).reshape(len(pixels), -1)


def test_cifar10_in_its_binary_version(tmp_path):
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    train, test = colours(20, 0), colours(6, 1)
    train_labels, test_labels = np.arange(20, dtype=np.uint8) % 10, np.arange(6, dtype=np.uint8)
    for number in range(5):
        rows = slice(4 * number, 4 * number + 4)
        content = np.column_stack([train_labels[rows], planes(train[rows])])
        content.tofile(folder / f"data_batch_{number + 1}.bin")
    np.column_stack([test_labels, planes(test)]).tofile(folder / "test_batch.bin")
    for path in (tmp_path, folder):
        found = open_retrieval_set("cifar10", path)
        assert np.array_equal(found.train.pixels(), train)
        assert np.array_equal(found.test.pixels(), test)
        assert found.train.classes.tolist() == train_labels.tolist()
        assert found.test.classes.tolist() == test_labels.tolist()
        assert found.test.side == 32 and found.test.labels[3] == "cat"
    (folder / "data_batch_3.bin").write_bytes(b"short")
    with pytest.raises(UserError, match=r"data_batch_3\.bin does not hold rows of 3073 bytes"):
        open_retrieval_set("cifar10", tmp_path)
    (folder / "data_batch_3.bin").unlink()
    with pytest.raises(UserError, match=r"missing file: .*data_batch_3\.bin"):
        open_retrieval_set("cifar10", tmp_path)


def test_cifar100_has_its_fine_labels(tmp_path):
    folder = tmp_path / "cifar-100-binary"
    folder.mkdir()
    pixels, fine = colours(5, 0), np.array([99, 0, 7, 7, 50], np.uint8)
    rows = np.column_stack([np.full(5, 3, np.uint8), fine, planes(pixels)])
    rows.tofile(folder / "train.bin")
    rows[:2].tofile(folder / "test.bin")
    found = open_retrieval_set("cifar100", tmp_path)
    assert found.train.classes.tolist() == fine.tolist()
    assert np.array_equal(found.test.pixels(), pixels[:2])
    assert found.train.labels[7] == "class 7"
    names = [f"thing_{number}" for number in range(100)]
    (folder / "fine_label_names.txt").write_text("\n".join(names) + "\n\n")
    assert open_retrieval_set("cifar100", tmp_path).train.labels == tuple(names)


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.mkdir, (self.marker,)


@pytest.mark.parametrize(
    ("name", "folder", "file", "archive"),
    [
        ("cifar10", "cifar-10-batches-py", "test_batch", r"cifar-10-binary\.tar\.gz"),
        ("cifar100", "cifar-100-python", "test", r"cifar-100-binary\.tar\.gz"),
    ],
)
def test_pickles_are_never_read(name, folder, file, archive, tmp_path):
    marker, pickled = tmp_path / "ran", tmp_path / folder / file
    pickled.parent.mkdir()
    pickled.write_bytes(pickle.dumps(Malicious(marker)))
    for path in (tmp_path, tmp_path / folder):
        with pytest.raises(UserError, match=f"unpack {archive} there"):
            open_retrieval_set(name, path)
    np.savez(tmp_path / "set.npz", x=np.array([Malicious(marker)]), y=np.zeros(1, int))
    with pytest.raises(UserError, match="not an archive of plain NumPy arrays"):
        open_retrieval_set(name, tmp_path / "set.npz")
    assert not marker.exists()


CUB_CLASSES = {1: "001.Albatross", 100: "100.Pelican", 101: "101.Pelican", 200: "200.Yellowthroat"}


@pytest.fixture
def cub(tmp_path) -> Path:
    """Set of two images of each of four classes, listed out of order."""
    folder = tmp_path / "CUB_200_2011"
    listed = [(c, f"{name}/{c}_{k}.jpg") for c, name in CUB_CLASSES.items() for k in range(2)]
    for number, (_, file) in enumerate(listed):
        paint(folder / "images" / file, 30 * number, mode="L" if number == 3 else "RGB")
    lines = [f"{number} {file}" for number, (_, file) in enumerate(listed, start=1)]
    (folder / "images.txt").write_text("\n".join(lines[::-1]) + "\n")
    lines = [f"{number} {c}" for number, (c, _) in enumerate(listed, start=1)]
    (folder / "image_class_labels.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_cub_trains_on_the_first_hundred_classes(cub, capsys):
    for path in (cub, cub / "CUB_200_2011"):
        found = open_retrieval_set("cub", path)
        assert found.train.labels == ("001.Albatross", "100.Pelican")
        assert found.test.labels == ("101.Pelican", "200.Yellowthroat")
        assert found.train.classes.tolist() == [1, 1, 0, 0]
        assert found.test.classes.tolist() == [1, 1, 0, 0]
        stems = [path.stem for path in found.test.store.paths]
        assert stems == ["200_1", "200_0", "101_1", "101_0"]
    assert "5864 and 5924" in capsys.readouterr().err
    assert (found.train.side, found.test.side) == (256, 224)
    assert found.train.pixels().shape == (4, 256, 256, 3)
    # JPEG keeps one colour almost as it is; the grey picture (number 3) has three equal channels.
    tested = found.test.pixels()
    assert tested.shape == (4, 224, 224, 3)
    assert np.abs(tested[0, 5, 5].astype(int) - (210, 0, 45)).max() <= 3
    grey = found.train.batch(np.array([0]))
    assert (grey == grey[..., :1]).all()


def test_the_middle_of_the_squashed_image_is_tested(cub):
    path = cub / "CUB_200_2011" / "images" / CUB_CLASSES[101] / "101_0.jpg"
    generator = np.random.default_rng(0)
    Image.fromarray(generator.integers(0, 256, (300, 200, 3), dtype=np.uint8)).save(path)
    found = open_retrieval_set("cub", cub)
    squashed = Image.open(path).resize((256, 256), Image.Resampling.BICUBIC)
    assert np.array_equal(found.test.batch(np.array([3]))[0], np.asarray(squashed)[16:240, 16:240])
    small = open_retrieval_set("cub", cub, size=56)
    assert (small.test.side, small.train.side) == (56, 64)


def test_images_are_read_when_they_are_asked_for(cub):
    found = open_retrieval_set("cub", cub)
    path = found.test.store.paths[1]
    path.write_bytes(b"no image")
    found.test.batch(np.array([0, 3, 3]))
    with pytest.raises(UserError, match="is not a readable image"):
        found.test.batch(np.array([0, 1]))
    assert found.test.batch(np.array([], int)).shape == (0, 224, 224, 3)
    path.unlink()
    with pytest.raises(UserError, match=f"missing file: {path}"):
        open_retrieval_set("cub", cub)


def test_cub_tables_must_agree(cub):
    labels = cub / "CUB_200_2011" / "image_class_labels.txt"
    content = labels.read_text()
    labels.write_text(content.rpartition("8 200")[0])
    with pytest.raises(UserError, match="list other images"):
        open_retrieval_set("cub", cub)
    labels.write_text(content.replace("200", "many"))
    with pytest.raises(
        UserError, match=r"image_class_labels\.txt must have the columns image, class"
    ):
        open_retrieval_set("cub", cub)
    labels.write_text(content.replace(" 1\n", " 101\n").replace(" 100\n", " 101\n"))
    with pytest.raises(UserError, match="training or test classes only"):
        open_retrieval_set("cub", cub)
    labels.unlink()
    with pytest.raises(UserError, match="missing file"):
        open_retrieval_set("cub", cub)
    with pytest.raises(UserError, match=r"no images\.txt in .*CUB_200_2011.*: unpack"):
        open_retrieval_set("cub", cub / "CUB_200_2011" / "images")


def write_cars(folder: Path, classes: list[int]) -> None:
    dtype = [("relative_im_path", object), ("bbox_x1", object), ("class", object), ("test", object)]
    annotations = np.empty((1, len(classes)), dtype)
    for number, of_class in enumerate(classes):
        file = f"car_ims/{number + 1:06d}.jpg"
        annotations[0, number] = (file, 5, of_class, 0)
        paint(folder / file, 20 * number)
    names = np.array([f"car {number}" for number in range(1, 197)], object)
    savemat(folder / "cars_annos.mat", {"annotations": annotations, "class_names": names})


def test_cars_train_on_the_first_half(tmp_path):
    (tmp_path / "cars").mkdir()
    write_cars(tmp_path / "cars", [98, 196, 99, 1, 98])
    for path in (tmp_path, tmp_path / "cars"):
        found = open_retrieval_set("cars", path)
        assert found.train.labels == ("car 1", "car 98")
        assert found.train.classes.tolist() == [1, 0, 1]
        assert found.test.labels == ("car 99", "car 196")
        assert found.test.classes.tolist() == [1, 0]
    assert found.test.pixels().shape == (2, 224, 224, 3)
    annotations = tmp_path / "cars" / "cars_annos.mat"
    savemat(annotations, {"annotations": np.zeros(3)})
    with pytest.raises(UserError, match=r"cars_annos\.mat does not hold the annotations"):
        open_retrieval_set("cars", tmp_path)
    annotations.write_bytes(b"<html>" * 50)
    with pytest.raises(UserError, match=r"cars_annos\.mat does not hold the annotations"):
        open_retrieval_set("cars", tmp_path)


def test_sop_has_its_parts_in_two_tables(tmp_path):
    folder = tmp_path / "Stanford_Online_Products"
    rows = {"train": [(1, 1, 1), (2, 1, 1), (3, 2, 1)], "test": [(4, 11319, 2), (5, 11320, 2)]}
    for part, products in rows.items():
        lines = ["image_id class_id super_class_id path"]
        for image, product, kind in products:
            file = f"{('bicycle', 'cabinet')[kind - 1]}_final/{image}_0.JPG"
            paint(folder / file, image)
            lines.append(f"{image} {product} {kind} {file}")
        (folder / f"Ebay_{part}.txt").write_text("\n".join(lines) + "\n")
    found = open_retrieval_set("sop", tmp_path)
    assert found.train.classes.tolist() == [0, 0, 1]
    assert found.test.classes.tolist() == [0, 1]
    assert found.test.labels == ("product 11319", "product 11320")
    assert names(found.test) == ["cabinet_final/4_0.JPG", "cabinet_final/5_0.JPG"]
    assert found.train.pixels().shape == (3, 256, 256, 3)
    (folder / "Ebay_test.txt").write_text("image_id\n")
    with pytest.raises(UserError, match="training or test classes only"):
        open_retrieval_set("sop", tmp_path)


@pytest.fixture
def classes(tmp_path) -> Path:
    for label, name in enumerate(["ant", "bee", "cat", "dog"]):
        for k in range(4):
            paint(tmp_path / "animals" / name / f"{k}.png", 40 * label + k, (28, 28))
    paint(tmp_path / "animals" / ".hidden" / "0.png", 0)
    (tmp_path / "animals" / "ant" / "notes.txt").write_text("no image")
    return tmp_path / "animals"


def test_a_folder_of_classes_by_images(classes):
    found = open_retrieval_set("folder", classes, size=28)
    assert found.train.labels == found.test.labels == ("ant", "bee", "cat", "dog")
    assert np.bincount(found.train.classes).tolist() == [2] * 4
    assert np.bincount(found.test.classes).tolist() == [2] * 4
    files = {*found.train.store.paths, *found.test.store.paths}
    assert len(files) == 16
    # Images of the wanted size come as they are.
    assert found.test.side == found.train.side == 28
    shades = found.test.pixels()[:, 9, 9, 0]
    assert (shades // 40).tolist() == found.test.classes.tolist()
    again = open_retrieval_set("folder", classes, size=28)
    assert again.train.store.paths == found.train.store.paths
    assert open_retrieval_set("folder", classes).test.side == 28  # the images' own
    assert open_retrieval_set("folder", classes, trained_size=32).test.side == 32
    assert open_retrieval_set("folder", classes, size=0, trained_size=32).test.side == 28


def test_a_folder_without_classes_is_an_error(tmp_path):
    with pytest.raises(UserError, match="expected <class>/<image>"):
        open_retrieval_set("folder", tmp_path)
    paint(tmp_path / "only" / "0.png", 0)
    paint(tmp_path / "only" / "1.png", 0)
    with pytest.raises(UserError, match="2 images of 1 classes cannot be divided"):
        open_retrieval_set("folder", tmp_path)


@pytest.fixture
def shop(tmp_path) -> Path:
    folder = tmp_path / "data" / "shop"
    for item in range(9):
        paint(folder / "original" / "images" / f"{item}.jpg", 20 * item, (64, 64))
    return folder


def test_a_catalogue_with_categories(shop):
    table = pd.DataFrame({"item": range(8, -1, -1), "category": [7, 5, 3] * 3})
    table.assign(label=table["category"].map({3: "hat", 5: "bag", 7: "shoe"})).to_csv(
        shop / "items.csv", index=False
    )
    found = open_retrieval_set("catalogue", shop)
    assert found.train.labels == found.test.labels == ("hat", "bag", "shoe")
    category = dict(zip(table["item"], table["category"], strict=True))
    for part in (found.train, found.test):
        items = part.ids
        assert [{3: 0, 5: 1, 7: 2}[category[item]] for item in items] == part.classes.tolist()
        assert [int(path.stem) for path in part.store.paths] == items.tolist()
        reds = part.pixels()[:, 50, 50, 0].astype(int)
        assert np.abs(reds - 20 * items).max() <= 3
    assert found.test.side == found.train.side == 64

    # The table need not list every item or name its categories.
    own = pd.DataFrame({"item": [0, 1, 2, 3], "category": [4, 4, 9, 9]})
    own.to_csv(shop / "items.csv", index=False)
    found = open_retrieval_set("catalogue", shop, size=32)
    assert found.train.labels == ("category 4", "category 9")
    assert len(found.train) == len(found.test) == 2


def test_results_of_later_stages_are_no_input_of_a_catalogue(shop):
    images = shop / "original" / "images"
    numbers = np.arange(9) % 2
    seen = Classes(np.arange(9), numbers, [f"kind {n}" for n in numbers], np.full(9, 0.5))
    write_classes(shop / "original" / "classes.csv", seen)
    found = open_retrieval_set("catalogue", shop)
    assert found.train.inputs == found.test.inputs == (images, shop / "original" / "classes.csv")
    (shop / "items.csv").write_text("item,category\n0,1\n1,1\n2,2\n")
    assert open_retrieval_set("catalogue", shop).test.inputs == (images, shop / "items.csv")


def test_a_catalogue_with_what_an_extractor_saw(shop):
    with pytest.raises(UserError, match=r"neither items\.csv .* nor original/classes\.csv"):
        open_retrieval_set("catalogue", shop)
    numbers = np.array([770, 774] * 4 + [3])
    labels = [f"kind {number}" for number in numbers]
    seen = Classes(np.arange(9), numbers, labels, np.full(9, 0.5))
    write_classes(shop / "original" / "classes.csv", seen)
    found = open_retrieval_set("catalogue", shop)
    assert found.train.labels == ("kind 3", "kind 770", "kind 774")
    assert np.bincount(found.train.classes).tolist() == [1, 2, 2]  # one image cannot be in both
    assert np.bincount(found.test.classes).tolist() == [0, 2, 2]


def test_wrong_category_tables_are_named(shop):
    path = shop / "items.csv"
    for content, problem in {
        "item,kind\n1,2\n": "no column category of whole numbers",
        "item,category\n1,hat\n": "no column category of whole numbers",
        "item,category\n1,2\n1,3\n": "item 1 appears twice",
        "item,category\n1,2\n50,3\n": "no image for item 50",
        "": "is not a CSV table",
    }.items():
        path.write_text(content)
        with pytest.raises(UserError, match=problem):
            open_retrieval_set("catalogue", shop)
    with pytest.raises(UserError, match="expected data/<dataset>"):
        open_retrieval_set("catalogue", shop / "original")


def test_choices_that_a_layout_does_not_leave(tmp_path):
    with pytest.raises(
        UserError, match="no data set layout 'imagenet': choose from mnist, fashion"
    ):
        open_retrieval_set("imagenet", tmp_path)
    with pytest.raises(UserError, match="no data at"):
        open_retrieval_set("cub", tmp_path / "none")
    with pytest.raises(UserError, match="the size of mnist cannot be chosen"):
        open_retrieval_set("mnist", tmp_path, size=32)
    with pytest.raises(UserError, match="images of -1 pixels"):
        open_retrieval_set("folder", tmp_path, size=-1)
    with pytest.raises(UserError, match="images of cub have no size in common"):
        open_retrieval_set("cub", tmp_path, size=0)
    assert list(LAYOUTS) == [
        "mnist", "fashion", "cifar10", "cifar100", "cub", "cars", "sop", "folder", "catalogue",
    ]  # fmt: skip


@given(counts=st.lists(st.integers(1, 9), min_size=2, max_size=6), seed=st.integers(0, 5))
def test_random_halves(counts, seed):
    """No image is lost or repeated, and each class is halved."""
    if max(counts) < 2:
        counts[0] = 2
    classes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts)), counts))
    numbered = np.arange(len(classes), dtype=np.uint8).reshape(-1, 1, 1, 1)
    images = ImageSet.of(ImageArray(numbered), classes, "abcdef"[: len(counts)])
    train, test = random_halves(images)
    assert sorted([*train.ids, *test.ids]) == list(range(len(classes)))
    for part in (train, test):
        assert (np.diff(part.ids) > 0).all()  # in the old order
        assert part.pixels().ravel().tolist() == part.ids.tolist()
        assert part.labels == images.labels
        np.testing.assert_array_equal(part.classes, classes[part.ids])
    for n, n_train in zip(counts, np.bincount(train.classes, minlength=len(counts)), strict=True):
        assert n_train == 1 if n == 1 else 1 <= n_train <= n - 1
        assert abs(n_train - n / 2) <= 0.5


@pytest.mark.skipif(not REAL_DATA.is_dir(), reason="the real data are not here")
def test_real_fashion_mnist(capsys):
    found = open_retrieval_set("fashion", REAL_DATA / "fashion_mnist.npz")
    assert (len(found.train), len(found.test), found.test.side) == (20_000, 10_000, 28)
    assert np.bincount(found.test.classes).tolist() == [1000] * 10
    assert "20000 training and 10000 test images" in capsys.readouterr().err
