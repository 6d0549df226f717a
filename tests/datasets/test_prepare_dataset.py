"""Preparation of data/<dataset>/ from raw sources with all kinds of defects."""

import gzip
import io
import json
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import prepare_dataset
from src.artifacts.errors import UserError
from src.artifacts.item_classes import read_item_classes
from src.artifacts.layout import Layout
from src.artifacts.tables import read_pairs
from src.datasets.amazon import read_products, read_reviews
from src.datasets.catalogue import open_whole_catalogue
from src.datasets.feedback_table import read_feedback
from src.datasets.images import OK, Downloads
from src.datasets.interactions import load_interactions
from src.datasets.mapping import IdMap
from src.datasets.splitting import leave_one_out
from src.datasets.tradesy import read_item_urls, read_lists
from tests.folders import contents
from tests.real_data import REAL_DATA
from tests.scripts import one_line
from tests.small_shops import source_rows

SCRIPT = Path(prepare_dataset.__file__)


def picture(value=0, kind="JPEG"):
    stream = io.BytesIO()
    Image.fromarray(np.full((6, 5, 3), value % 256, np.uint8)).save(stream, kind)
    return stream.getvalue()


def image_folder(path, names):
    path.mkdir()
    for value, name in enumerate(names):
        (path / name).write_bytes(picture(value, "PNG" if name.endswith("png") else "JPEG"))
    return path


def table(path, rows, separator="\t"):
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))
    return path


def gzipped(path, lines):
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    return path


def original_rows(layout):
    """Return (training rows, test rows) of ``source_rows``."""
    return source_rows(layout, layout.training_set), source_rows(layout, layout.test_set)


def readable(layout):
    """Return whether the data set passes the checks of the stages."""
    return load_interactions(layout, len(open_whole_catalogue(layout.images)))


def tree(folder):
    return contents(folder, without=("manifest.json",))


# Demo


def test_demo_is_written_once(prepare, tmp_path):
    options = ("demo", "--items", 20, "--users", 9, "--size", 16, "--per_class", 1)
    code, output, _ = prepare(*options)
    assert code == 0 and "data set at" in output and "9 users, 20 items" in output
    layout = Layout("demo", tmp_path)
    readable(layout)
    before = tree(layout.data)
    assert "is up to date" in prepare(*options)[1]
    assert one_line(prepare(*options, "--seed", 1), "already holds other data")
    assert tree(layout.data) == before
    assert prepare(*options, "--seed", 1, "--force")[0] == 0
    assert tree(layout.data) != before
    assert prepare(*options, "--force")[0] == 0
    assert tree(layout.data) == before
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["demo"]


def test_a_kill_leaves_nothing_visible(tmp_path):
    command = [sys.executable, SCRIPT, "demo", "--items", "60", "--users", "5", "--size", "32"]
    command += ["--per_class", "2", "--root", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    first = tmp_path / "data" / ".partial-demo" / "data" / "demo" / "original" / "images" / "3.jpg"
    while not first.exists() and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert first.exists() and not (tmp_path / "data" / "demo").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["demo"]
    command[-1] = str(tmp_path / "undisturbed")
    subprocess.run(command, check=True, capture_output=True)
    assert tree(tmp_path / "data" / "demo") == tree(tmp_path / "undisturbed" / "data" / "demo")


def test_an_interruption_leaves_nothing(prepare, tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("src.datasets.demo.build.choose", interrupt)
    assert prepare("demo", "--items", 20, "--size", 16)[0] == 130
    assert list((tmp_path / "data").iterdir()) == []


# Folder


def test_any_ids_become_row_numbers(prepare, tmp_path):
    images = image_folder(
        tmp_path / "images", ["red shirt.jpg", "B01.png", "9'.jpeg", "unsold.jpg"]
    )
    rows = [("ann", "B01", 5, 30), ("bob", "9'", 4, 10), ("ann", "red shirt", 2, 20)]
    rows += [("bob", "red shirt", 3, 11), ("cy", "9'", 1, 1), ("ann", "B01", 1, 5)]
    source = table(tmp_path / "all.tsv", rows)
    code, output, _ = prepare(
        "folder", "--dataset", "shop", "--images", images, "--interactions", source
    )
    assert code == 0 and "3 users, 4 items, 3 training and 2 test" in output
    layout = Layout("shop", tmp_path)
    readable(layout)
    train, test = original_rows(layout)
    assert train == [("ann", "red shirt"), ("bob", "9'"), ("cy", "9'")]
    assert test == [("ann", "B01"), ("bob", "red shirt")]
    for number, original in enumerate(IdMap.read(layout.item_map).originals):
        (copied,) = layout.images.glob(f"{number}.*")
        (source,) = images.glob(f"{original}.*")
        assert copied.suffix == source.suffix and copied.read_bytes() == source.read_bytes()


def test_rows_of_an_archive_are_items(prepare, tmp_path):
    pixels = np.arange(12 * 6 * 6, dtype=np.uint8).reshape(12, 6, 6)
    np.savez(tmp_path / "images.npz", x=pixels)
    train = table(tmp_path / "train.tsv", [(0, 2), (0, 10), (1, 11)])
    test = table(tmp_path / "test.tsv", [(0, 1), (1, 3)])
    ready = ("--train", train, "--test", test)
    assert prepare("folder", "--images", tmp_path / "images.npz", *ready)[0] == 0
    layout = Layout("catalogue", tmp_path)
    assert readable(layout).n_items == 12
    for item in range(12):
        assert np.array_equal(np.asarray(Image.open(layout.images / f"{item}.png")), pixels[item])
    np.savez(tmp_path / "float.npz", x=pixels / 255)
    other = ("--dataset", "other", *ready)
    assert one_line(prepare("folder", "--images", tmp_path / "float.npz", *other), "has no x of")
    assert one_line(prepare("folder", "--images", tmp_path / "none.npz", *other), "missing file")


def test_ready_split_keeps_ids_and_bytes(prepare, tmp_path):
    images = image_folder(tmp_path / "images", [f"{item}.jpg" for item in range(12)])
    train = table(tmp_path / "train.tsv", [(1, 11), (0, 2), (0, 10), (2, 1)])
    test = table(tmp_path / "test.tsv", [(1, 3), (0, 1)])
    options = ("folder", "--images", images, "--train", train, "--test", test)
    assert prepare(*options)[0] == 0
    layout = Layout("catalogue", tmp_path)
    assert readable(layout).n_items == 12
    assert read_pairs(layout.training_set).tolist() == [[0, 2], [0, 10], [1, 11], [2, 1]]
    for item in range(12):
        assert (layout.images / f"{item}.jpg").read_bytes() == (images / f"{item}.jpg").read_bytes()
    assert "up to date" in prepare(*options)[1]
    (images / "5.jpg").unlink()
    (images / "5.jpg").write_bytes(picture(77))
    assert one_line(prepare(*options), "already holds other data")


def test_items_without_a_readable_image_are_listed(prepare, tmp_path):
    images = image_folder(tmp_path / "images", ["0.jpg", "1.jpg", "2.jpg", "4.jpg"])
    (images / "1.jpg").write_bytes(b"<html>gone</html>")
    (images / "4.jpg").write_bytes(picture()[:-4])  # truncated, and still readable
    train = table(tmp_path / "train.tsv", [(0, 0), (0, 1), (0, 4), (1, 3), (2, 2)])
    test = table(tmp_path / "test.tsv", [(0, 2), (1, 0), (2, 1)])
    code, output, _ = prepare("folder", "--images", images, "--train", train, "--test", test)
    assert code == 0 and "2 items without a readable image dropped" in output
    layout = Layout("catalogue", tmp_path)
    readable(layout)
    dropped = pd.read_csv(layout.dropped_items, sep="\t", dtype=str)
    assert dict(dropped.to_numpy()) == {"3": "no image", "1": "not a readable image"}
    # User 1 lost the only training row and with it the test row, user 2 the test row.
    assert original_rows(layout) == ([("0", "0"), ("0", "4"), ("2", "2")], [("0", "2")])


ORDERS = [
    ("date", "customer_id", "qty", "article_id"),
    ("2026-03-02", "ann", 1, "S-2"),
    ("2026-03-01T10:00:00Z", "ann", 2, "S-1"),
    ("2026-01-05", "bob", 1, "S-2"),
    ("2026-01-04", "bob", 1, "S-3"),
]


def shop_options(folder, categories):
    images = image_folder(folder / "images", [f"S-{item}.jpg" for item in range(1, 6)])
    orders = table(folder / "orders.csv", ORDERS, separator=";")
    table(folder / "items.csv", [("article_id", "category"), *categories], separator=",")
    options = ("--images", images, "--interactions", orders)
    return ("folder", *options, "--categories", folder / "items.csv")


def test_a_shop_with_categories(prepare, tmp_path):
    names = ["shoes", "bags", "shoes", "hats", "bags", "rings"]
    categories = [(f"S-{item}", name) for item, name in enumerate(names, start=1)]
    code, output, _ = prepare(*shop_options(tmp_path, categories))
    assert code == 0
    assert "3 categories, from bags to shoes; " in output
    assert "items.csv has 1 more without an image: S-6\n" in output
    assert (
        "2 users, 5 items, 2 training and 2 test interactions; 2 of the items are in no" in output
    )
    layout = Layout("catalogue", tmp_path)
    assert original_rows(layout) == (
        [("ann", "S-1"), ("bob", "S-3")],
        [("ann", "S-2"), ("bob", "S-2")],
    )
    written = pd.read_csv(layout.item_categories)
    assert written["label"].tolist() == names[:5]
    assert written["category"].tolist() == [2, 0, 2, 1, 0]
    found = read_item_classes(layout.item_categories)
    assert found.labels == ("bags", "hats", "shoes")
    assert found.classes.tolist() == [2, 0, 2, 1, 0]


def test_categories_that_are_numbers_cannot_be_taken_for_classes(prepare, tmp_path):
    categories = [(f"S-{item}", 30 - item) for item in range(1, 6)]
    assert prepare(*shop_options(tmp_path, categories))[0] == 0
    found = read_item_classes(Layout("catalogue", tmp_path).item_categories)
    assert found.class_of("category 25", "origin_class") == found.class_of("0", "origin_class") == 0


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([("x", "a"), ("y", "b")], "no category of 5 of the 5 items with images, the first is S-1"),
        ([(f"S-{item}", "a") for item in (1, 2, 3, 5)], "no category of 1 of the 5 items"),
        ([("S-1", "a"), ("S-2", ""), ("S-3", "")], "line 3: no category; 2 of 3 rows cannot be"),
        ([("S-1", "a"), ("S-1", "b")], "line 3: item S-1 appears twice"),
    ],
)
def test_wrong_categories_leave_nothing(prepare, tmp_path, categories, message):
    assert one_line(prepare(*shop_options(tmp_path, categories)), message)
    assert not list((tmp_path / "data").iterdir())


def test_core_is_taken_after_dropping(prepare, tmp_path):
    names = ["a", "b", "c", "d"]
    images = image_folder(tmp_path / "images", [f"{name}.png" for name in names[:3]])
    rows = [(user, item) for user in ("u", "v") for item in names]
    rows += [("w", "a"), ("w", "d")]  # falls below 2 when d goes
    interactions = table(tmp_path / "all.csv", [("user", "item"), *rows], separator=",")
    options = ("--images", images, "--interactions", interactions, "--header", "--core", 2)
    assert prepare("folder", *options)[0] == 0
    layout = Layout("catalogue", tmp_path)
    readable(layout)
    train, test = original_rows(layout)
    assert {user for user, _ in train} == {"u", "v"}
    assert test == [("u", "c"), ("v", "c")]
    assert one_line(prepare("folder", *options[:-1], 9, "--force"), "no training row is left")


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        (
            [("u", "i", "r", "t"), ("a", "b", 1, 3), ("a", "", 1, 4), ("a", "c", "?", "?")],
            {"header": True},
            "line 3: no item id; 2 of 3 rows cannot be read",
        ),
        ([("a", "b")] * 3 + [("a", "b", "c")] * 2, {}, "line 4: 2 rows have more than the 2 col"),
        (
            [("a", "b", "high")],
            {},
            "line 1: rating 'high' is not a number (if this is a header, name",
        ),
        ([("a", "b", 1), ("a", "c", "")], {}, "line 2: rating '' is not a number"),
        ([("u", "i", "r"), ("a", "", 1)], {"header": True}, "line 2: no item id"),
        ([("a", "b", 1, "noon")], {}, "time 'noon' is not a number"),
        ([("a", "b", 1, 7), ("a", "c", 1, "noon")], {}, "not all times are dates like 2026-07-14"),
        ([("a",)], {}, "has 1 columns"),
        ([("nr", "mail", "sku no", "n", "x")], {}, "names such as customer_id and product_id"),
        ([("a", "b"), ("a", "b", "c")], {}, "line 2: 1 row has more than the 2 columns"),
        ([], {}, "is empty"),
        ([("a", "b")], {"min_rating": 3}, "no third column"),
    ],
)
def test_wrong_tables(tmp_path, rows, options, message):
    with pytest.raises(UserError) as error:
        read_feedback(table(tmp_path / "all.tsv", rows), **options)
    assert message in str(error.value)


def test_tables_are_text_in_utf_8(tmp_path):
    path = tmp_path / "orders.csv"
    path.write_text("user,item\nJörg,a\n", encoding="cp1252")
    with pytest.raises(UserError, match="no text in UTF-8: save it as CSV in UTF-8"):
        read_feedback(path)


def test_min_rating_and_times(tmp_path):
    rows = [("u", "a", 5, 3), ("u", "b", 2, 9), ("u", "c", 4, 1)]
    feedback = read_feedback(table(tmp_path / "all.tsv", rows), min_rating=3)
    _, test = leave_one_out(feedback)
    assert len(feedback) == 2 and test.item_ids[test.items[0]] == "a"


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        ([("u", "0"), ("u", "0")], [("u", "1")], "train.tsv: user u, item 0 appears twice"),
        ([("u", "0")], [("u", "0")], "test.tsv: user u, item 0 is also a training row"),
        ([("u", "0")], [("v", "1")], "test.tsv: user v has no row in train.tsv"),
        (
            [("u", "x")],
            [("u", "y")],
            "no item of {tmp}/train.tsv has an image: its first item is 'x', ",
        ),
        (
            [("u", "0.jpg")],
            [("u", "1.jpg")],
            "'0.jpg', and the first image '0.jpg'; images are named",
        ),
    ],
)
def test_wrong_splits(prepare, tmp_path, train, test, message):
    images = image_folder(tmp_path / "images", ["0.jpg", "1.jpg", "2.jpg"])
    train, test = table(tmp_path / "train.tsv", train), table(tmp_path / "test.tsv", test)
    assert one_line(
        prepare("folder", "--images", images, "--train", train, "--test", test),
        message.format(tmp=tmp_path),
    )
    assert list((tmp_path / "data").iterdir()) == []


def test_wrong_options(prepare, tmp_path):
    images = image_folder(tmp_path / "images", ["a.jpg", "a.png", "b.jpg"])
    rows = table(tmp_path / "all.tsv", [("u", "a"), ("u", "b")])
    given = ("folder", "--images", images)
    assert one_line(prepare(*given, "--interactions", rows), "two images of item a")
    assert one_line(prepare(*given), "give either --interactions, or --train and --test")
    assert one_line(prepare(*given, "--train", rows), "give either")
    ready = ("--train", rows, "--test", rows)
    assert one_line(prepare(*given, *ready, "--core", 5), "not a ready split")
    assert one_line(prepare(*given, "--interactions", rows, "--core", -1), "at least 0")
    assert one_line(prepare(*given, "--interactions", tmp_path / "none.tsv"), "missing file")
    (tmp_path / "empty").mkdir()
    empty = ("folder", "--images", tmp_path / "empty", "--interactions", rows)
    assert one_line(prepare(*empty), "no images in")
    assert one_line(prepare("folder", "--interactions", rows), "--images")
    assert one_line(prepare("nothing"), "invalid choice")
    assert one_line(prepare("demo", "--dataset", "../x"), "not a plain name")


def test_inputs_are_never_replaced(prepare, tmp_path):
    place = tmp_path / "data" / "shop"
    place.mkdir(parents=True)
    images = image_folder(place / "raw", ["a.jpg", "b.jpg"])
    rows = table(place / "all.tsv", [("u", "a"), ("u", "b")])
    options = ("folder", "--dataset", "shop", "--images", images, "--interactions", rows, "--force")
    assert one_line(prepare(*options), "which would be replaced")
    assert rows.exists() and len(list(images.iterdir())) == 2


def test_folder_with_a_validation_part(prepare, tmp_path):
    images = image_folder(tmp_path / "images", [f"{item}.jpg" for item in "abcd"])
    rows = [("u", item, 5, time) for time, item in enumerate("abcde")] + [("v", "a", 5, 1)]
    everything = table(tmp_path / "all.tsv", rows)
    given = ("folder", "--images", images, "--interactions", everything)
    code, output, _ = prepare(*given, "--validation_split")
    assert code == 0 and "2 users, 4 items, 3 training, 1 validation and 1 test" in output
    layout = Layout("catalogue", tmp_path)
    # The newest, e, has no image.
    assert source_rows(layout, layout.validation_set) == [("u", "c")]
    assert original_rows(layout) == ([("u", "a"), ("u", "b"), ("v", "a")], [("u", "d")])
    assert "up to date" in prepare(*given, "--validation_split")[1]
    layout.validation_set.unlink()
    assert one_line(prepare(*given, "--validation_split"), "already holds other data")
    ready = ("folder", "--dataset", "ready", "--images", images)
    ready += ("--train", table(tmp_path / "train.tsv", [("v", "a"), ("u", "e"), ("u", "b")]))
    ready += ("--test", table(tmp_path / "test.tsv", [("u", "d"), ("v", "d")]))
    assert (
        prepare(*ready, "--validation", table(tmp_path / "v.tsv", [("v", "b"), ("u", "a")]))[0] == 0
    )
    layout = Layout("ready", tmp_path)
    assert source_rows(layout, layout.validation_set) == [("u", "a"), ("v", "b")]


# Tables alone


READY = {
    "train": [("v", "9", 4, 5), ("u", "x", 1, 7), ("u", "10", 5, 9), ("w", "y", 2, 1)],
    "test": [("w", "z", 5, 9), ("u", "9", 3, 9)],
    "validation": [("v", "q", 5, 6)],
}


def ready_tables(folder, parts=READY, separator="\t", final_newline=True):
    """Write the rows of ``parts`` and return ``--train FILE --test FILE ...``."""
    options = []
    for part, rows in parts.items():
        path = table(folder / f"{part}.tsv", rows, separator)
        if not final_newline:
            path.write_text(path.read_text().rstrip("\n"))
        options += [f"--{part}", path]
    return options


def original_pairs(layout):
    """Return the (user, item) pairs of each part that the stages read, in the ids of the source."""
    data = load_interactions(layout, None)
    users, items = IdMap.read(layout.user_map), IdMap.read(layout.item_map)
    return {
        part: {(users.originals[user], items.originals[item]) for user, item in getattr(data, part)}
        for part in ("train", "test", "validation")
    }


@pytest.mark.parametrize("n_columns", [2, 3, 4])
@pytest.mark.parametrize("separator", ["\t", ","])
@pytest.mark.parametrize("final_newline", [True, False])
def test_tables_alone(prepare, tmp_path, n_columns, separator, final_newline):
    parts = {part: [row[:n_columns] for row in rows] for part, rows in READY.items()}
    options = ("interactions", *ready_tables(tmp_path, parts, separator, final_newline))
    code, output, _ = prepare(*options)
    assert code == 0
    assert "3 users, 6 items, 4 training, 1 validation and 2 test interactions" in output
    layout = Layout("interactions", tmp_path)
    expected = {part: {row[:2] for row in rows} for part, rows in READY.items()}
    assert original_pairs(layout) == expected
    assert sorted(tree(layout.data)) == [
        "item_ids.tsv",
        "testset.tsv",
        "trainingset.tsv",
        "user_ids.tsv",
        "validationset.tsv",
    ]
    assert IdMap.read(layout.item_map).originals == ("10", "9", "q", "x", "y", "z")
    assert "up to date" in prepare(*options)[1]


def test_swapped_tables_are_another_data_set(prepare, tmp_path):
    parts = {part: table(tmp_path / part, rows) for part, rows in READY.items()}
    roles = [("test", "validation"), ("validation", "test")]
    first, second = (
        (
            "interactions",
            "--train",
            parts["train"],
            f"--{a}",
            parts["test"],
            f"--{b}",
            parts["validation"],
        )
        for a, b in roles
    )
    assert prepare(*first)[0] == 0
    assert one_line(prepare(*second), "already holds other data")
    assert prepare(*second, "--force")[0] == 0
    pairs = original_pairs(Layout("interactions", tmp_path))
    assert pairs["validation"] == {row[:2] for row in READY["test"]}


def test_validation_split_of_a_ready_split(prepare, tmp_path):
    parts = {part: READY[part] for part in ("train", "test")}
    options = ("interactions", *ready_tables(tmp_path, parts), "--validation_split")
    assert prepare(*options)[0] == 0
    pairs = original_pairs(Layout("interactions", tmp_path))
    assert pairs["validation"] == {("u", "10")}  # of time 9; v and w keep their only row
    assert pairs["train"] == {("v", "9"), ("u", "x"), ("w", "y")}
    # Without times the last row counts.
    parts["train"] = [row[:2] for row in reversed(READY["train"])]
    assert (
        prepare(*options[:1], *ready_tables(tmp_path, parts), "--validation_split", "--force")[0]
        == 0
    )
    assert original_pairs(Layout("interactions", tmp_path))["validation"] == {("u", "x")}


def test_all_feedback_without_images(prepare, tmp_path):
    rows = [(user, item, 5 - item % 2, 10 * user + item) for user in range(3) for item in range(4)]
    rows += [(7, 0, 5, 1), (0, 9, 5, 99), (0, 1, 5, 100)]
    everything = table(tmp_path / "all.csv", [("user", "item", "stars", "when"), *rows], ",")
    options = ("interactions", "--interactions", everything, "--header", "--validation_split")
    assert prepare(*options, "--core", 3)[0] == 0
    layout = Layout("interactions", tmp_path)
    assert original_pairs(layout) == {
        "train": {("0", "0"), ("0", "2"), ("1", "0"), ("1", "1"), ("2", "0"), ("2", "1")},
        "test": {("0", "1"), ("1", "3"), ("2", "3")},
        "validation": {("0", "3"), ("1", "2"), ("2", "2")},
    }
    assert len(IdMap.read(layout.item_map)) == 4
    assert prepare(*options, "--min_rating", 5, "--force")[0] == 0
    pairs = original_pairs(layout)
    assert pairs["test"] == {("0", "1"), ("1", "2"), ("2", "2")}
    assert ("7", "0") in pairs["train"]
    assert one_line(prepare(*options, "--core", 9, "--force"), "no training row is left")
    assert one_line(prepare(*options, "--min_rating", 9, "--force"), "no training row is left")
    assert prepare(*options, "--core", 9)[0] == 2 and original_pairs(layout) == pairs


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"validation": [("v", "9")]}, "validation.tsv: user v, item 9 is also a training row"),
        ({"validation": [("u", "9")]}, "validation.tsv: user u, item 9 is also a test row"),
        ({"validation": [("t", "y")]}, "validation.tsv: user t has no row in train.tsv"),
        ({"validation": [("v", "")]}, "validation.tsv, line 1: no item id"),
        ({"validation": []}, "validation.tsv is empty"),
        (
            {"train": [("person", "thing"), ("1", "2")]},
            "row 1: 'person' and 'thing' among ids that are num",
        ),
    ],
)
def test_wrong_tables_alone(prepare, tmp_path, parts, message):
    assert one_line(prepare("interactions", *ready_tables(tmp_path, READY | parts)), message)
    assert list((tmp_path / "data").iterdir()) == []


def test_wrong_options_of_tables(prepare, tmp_path):
    ready = ready_tables(tmp_path)
    all_feedback = ("--interactions", table(tmp_path / "all.tsv", [("u", "a"), ("v", "b")]))
    cases = [
        ((*ready, "--validation_split"), "either --validation or --validation_split"),
        ((*ready, *all_feedback), "give either --interactions, or --train and --test"),
        ((*all_feedback, *ready[4:]), "give either --interactions, or --train and --test"),
        (ready[4:], "give either --interactions, or --train and --test"),
        ((*ready, "--min_rating", 3), "not a ready split"),
        (all_feedback, "no test row is left"),
    ]
    for options, message in cases:
        assert one_line(prepare("interactions", *options), message)
    few = table(tmp_path / "few.tsv", [("u", "a"), ("u", "b")])
    outcome = prepare("interactions", "--interactions", few, "--validation_split")
    assert one_line(outcome, "no validation row is left: no user has two training rows")


def test_the_command_that_an_error_names_repairs_the_data_set(prepare, tmp_path):
    """The data set has ids with gaps and was written by hand."""
    layout = Layout("mine", tmp_path)
    layout.data.mkdir(parents=True)
    rows = {"training": [(1, 50), (3, 7)], "test": [(3, 50)], "validation": [(1, 8)]}
    for kind, path in (
        ("training", layout.training_set),
        ("test", layout.test_set),
        ("validation", layout.validation_set),
    ):
        table(path, rows[kind])
    with pytest.raises(UserError) as error:
        load_interactions(layout, None)
    command = shlex.split(str(error.value).partition("python prepare_dataset.py ")[2])
    assert command[-2:] == ["--root", str(tmp_path)]
    assert prepare(*command[:-2])[0] == 0
    data = load_interactions(Layout("mine_numbered", tmp_path), None)
    assert (data.n_users, data.n_items) == (2, 3)
    assert data.train.tolist() == [[0, 2], [1, 0]]
    assert data.test.tolist() == [[1, 2]] and data.validation.tolist() == [[0, 1]]


# Amazon


def review(user, item, when, rating=5.0):
    record = {"reviewerID": user, "asin": item, "overall": rating, "unixReviewTime": when}
    return json.dumps(record | {"reviewText": "fits {well}\u2028"})


MEN_2014 = [["Clothing, Shoes & Jewelry", "Men", "Shoes"], ["Sports"]]
WOMEN_2014 = [["Clothing, Shoes & Jewelry", "Women"]]


def product_2014(asin, categories, url=None):
    record = {"asin": asin, "title": "it's", "categories": categories}
    return repr(record | ({"imUrl": url} if url else {}))


def product_2018(asin, category, urls=()):
    return json.dumps({"asin": asin, "category": category, "imageURLHighRes": list(urls)})


def shop_reviews():
    """Write reviews of four users who bought all of four items, each in a different order."""
    return [
        review(f"U{user}", f"B{item}", 1000 + (item + user) % 4 * 86400)
        for item in range(4)
        for user in range(4)
    ]


def test_editions_of_amazon_metadata(tmp_path):
    old = [
        product_2014("B1", MEN_2014, "http://x/1.jpg"),
        product_2014("B2", WOMEN_2014, "http://x/2.jpg"),
        product_2014("B3", MEN_2014),
        product_2014("B4", [["Men", "Clothing, Shoes & Jewelry"]]),
        "{'asin': 'B5', 'title': 'Men Clothing Shoes Jewelry'}",
    ]
    names = ["Clothing, Shoes & Jewelry", "Men"]
    expected = {"B1": "http://x/1.jpg", "B3": None}
    assert read_products(gzipped(tmp_path / "old.json.gz", old), names) == expected
    escaped = ["Clothing, Shoes &amp; Jewelry", "Men", "Hats"]
    new = [
        product_2018("B1", escaped, ["http://x/big.jpg", "http://x/other.jpg"]),
        product_2018("B2", names),
        product_2018("B3", ["Men"]),
        json.dumps({"asin": "B4", "category": names, "imageURL": ["http://x/small.jpg"]}),
    ]
    path = tmp_path / "new.json"
    path.write_text("\n".join(new))
    expected = {"B1": "http://x/big.jpg", "B2": None, "B4": "http://x/small.jpg"}
    assert read_products(path, names) == expected


def test_amazon_from_a_folder_of_images(prepare, tmp_path):
    reviews = [
        *shop_reviews(),
        review("U0", "B0", 999),
        review("U9", "B0", 5),
        review("U0", "W", 9e9),
    ]
    metadata = [product_2014(f"B{item}", MEN_2014) for item in range(4)]
    metadata += [product_2014("W", WOMEN_2014)]
    images = image_folder(tmp_path / "images", ["B0.jpg", "B1.jpg", "B2.png", "B3.jpg", "W.jpg"])
    options = ["amazon", "--reviews", gzipped(tmp_path / "reviews.json.gz", reviews)]
    options += ["--metadata", gzipped(tmp_path / "meta.json.gz", metadata), "--images", images]
    assert one_line(prepare(*options), "no user and item have 5 interactions")
    code, output, _ = prepare(*options, "--core", 4)
    assert code == 0 and "4 users, 4 items, 12 training and 4 test" in output
    layout = Layout("amazon_men", tmp_path)
    readable(layout)
    train, test = original_rows(layout)
    # The newest is the item with (item + user) % 4 == 3.
    assert test == [(f"U{user}", f"B{(3 - user) % 4}") for user in range(4)]
    assert [item for user, item in train if user == "U1"] == ["B3", "B0", "B1"]
    assert "up to date" in prepare(*options, "--core", 4)[1]
    (images / "B2.png").unlink()
    options += ["--dataset", "amazon_other", "--category", "Clothing, Shoes & Jewelry/Men"]
    code, output, _ = prepare(*options, "--core", 3)
    assert code == 0 and "4 users, 3 items" in output and "1 items without" in output
    assert one_line(
        prepare(*options, "--core", 3, "--category", "Toys", "--force"), "no product in"
    )


def test_amazon_downloads_images(prepare, tmp_path, web_server, monkeypatch):
    monkeypatch.setattr("src.datasets.images.time.sleep", lambda _: None)
    kinds = {0: "JPEG", 1: "PNG", 2: "JPEG", 3: "GIF"}
    metadata = []
    for item, kind in kinds.items():
        web_server.files[f"/{item}"] = picture(40 * item, kind)
        metadata.append(product_2018(f"B{item}", ["Men"], [f"{web_server.url}/{item}"]))
    web_server.busy["/1"] = 2
    web_server.cuts["/2"] = 100
    reviews = gzipped(tmp_path / "reviews.json.gz", shop_reviews())
    products = gzipped(tmp_path / "meta.json.gz", metadata)
    options = ["amazon", "--reviews", reviews, "--metadata", products, "--category", "Men"]
    options += ["--core", 3, "--download"]
    code, output, _ = prepare(*options)
    assert code == 0 and "4 users, 3 items" in output and "downloads are kept in" in output
    layout = Layout("amazon_men", tmp_path)
    readable(layout)
    assert sorted(path.name for path in layout.images.iterdir()) == ["0.jpg", "1.png", "2.jpg"]
    report = pd.read_csv(layout.images_report, sep="\t")
    assert list(report) == ["item", "url", "status"]
    assert report["status"].tolist() == [OK] * 3 + ["not a JPEG, PNG, WebP, BMP or TIFF image"]
    assert [path for path, _ in web_server.requests].count("/1") == 3  # busy twice
    asked = len(web_server.requests)
    assert "up to date" in prepare(*options)[1] and len(web_server.requests) == asked


def test_downloads_continue_and_report(tmp_path, web_server):
    downloads = Downloads(tmp_path / "images", attempts=3, first_wait_s=0.001)
    web_server.files |= {
        "/a": picture(),
        "/b": picture(kind="PNG"),
        "/text": b"<html>",
        "/d": picture(),
    }
    web_server.busy["/d"] = 99
    urls = {name: f"{web_server.url}/{name}" for name in ("a", "b", "missing", "text", "d")}
    urls |= {"file": "file:///etc/passwd", "none": None, "x/y": f"{web_server.url}/a"}
    images, statuses = downloads.fetch(urls)
    assert images.keys() == {"a", "b", "x/y"}
    assert images["x/y"].read_bytes() == picture() and images["b"].suffix == ".png"
    assert {item: status for item, status in statuses.items() if status != OK} == {
        "missing": "HTTP 404",
        "text": "not a readable image",
        "d": "HTTP 503",
        "file": "not a web address",
        "none": "no image",
    }
    paths = [path for path, _ in web_server.requests]
    assert paths.count("/d") == 3 and paths.count("/missing") == 1
    web_server.busy.clear()
    web_server.requests.clear()
    images, statuses = downloads.fetch(urls)
    assert images.keys() == {"a", "b", "d", "x/y"} and statuses["d"] == OK
    assert "/a" not in [path for path, _ in web_server.requests]
    assert not list((tmp_path / "images").glob(".*"))


def test_an_unreachable_server_is_a_reason(tmp_path):
    downloads = Downloads(tmp_path, attempts=2, first_wait_s=0.001)
    _, statuses = downloads.fetch({"a": "http://127.0.0.1:9/a.jpg"})
    assert statuses["a"].startswith("unreachable: ")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([review("U", "B", 1), '{"asin": "B"}'], "line 2: no field 'reviewerID'"),
        (["{'asin': __import__('os').getcwd()}"], "line 1: not a record of the expected form"),
        (["not json"], "line 1: not a record of the expected form"),
        (["[1, 2]"], "line 1: not a record of the expected form"),
        ([json.dumps({"asin": "B", "reviewerID": "U", "unixReviewTime": "noon"})], "line 1: not a"),
    ],
)
def test_damaged_records(tmp_path, lines, message):
    with pytest.raises(UserError) as error:
        read_reviews(gzipped(tmp_path / "reviews.json.gz", lines), {"B"})
    assert message in str(error.value)


def test_damaged_files(tmp_path):
    whole = gzipped(tmp_path / "reviews.json.gz", shop_reviews() * 20)
    assert len(read_reviews(whole, {"B0", "B1"})) == 160
    whole.write_bytes(whole.read_bytes()[:-30])
    with pytest.raises(UserError, match="is damaged after line"):
        read_reviews(whole, {"B0"})
    whole.write_bytes(b"no gzip at all")
    with pytest.raises(UserError, match="is damaged after line 0"):
        read_reviews(whole, {"B0"})
    with pytest.raises(UserError, match="missing file"):
        read_reviews(tmp_path / "none.json", {"B0"})


# Tradesy


def test_tradesy(prepare, tmp_path, web_server):
    lists = [
        {
            "uid": "7",
            "lists": {"bought": ["30", "10"], "want": ["20"], "sold": ["99"], "selling": []},
        },
        {"uid": "8", "lists": {"bought": [], "want": ["10", "20", "30", "10"]}},
        {"uid": "9", "lists": {"bought": ["10"], "want": [], "selling": ["20"]}},
    ]
    path = gzipped(tmp_path / "tradesy.json.gz", [repr(record) for record in lists])
    feedback = read_lists(path)
    assert len(feedback) == 8 and "99" not in feedback.item_ids
    lines = []
    for item in ("10", "20", "30"):
        web_server.files[f"/{item}"] = picture(int(item))
        lines.append(json.dumps({"itemID": item, "imageUrl": f"{web_server.url}/{item}"}))
    urls = gzipped(tmp_path / "urls.json.gz", lines)
    assert read_item_urls(urls)["30"] == f"{web_server.url}/30"
    options = ["tradesy", "--feedback", path, "--core", 2, "--download"]
    assert one_line(prepare(*options), "--download needs --item_urls")
    code, output, _ = prepare(*options, "--item_urls", urls)
    assert code == 0 and "2 users, 3 items, 4 training and 2 test" in output
    layout = Layout("tradesy", tmp_path)
    readable(layout)
    train, test = original_rows(layout)
    assert test == [("7", "20"), ("8", "10")]
    assert train == [("7", "30"), ("7", "10"), ("8", "20"), ("8", "30")]
    images = tmp_path / "images"
    images.mkdir()
    for item in ("10", "20", "30"):
        (images / f"{item}.jpg").write_bytes(picture(int(item)))
    other = ["tradesy", "--dataset", "other", "--feedback", path, "--core", 2, "--images", images]
    assert prepare(*other)[0] == 0
    assert original_rows(Layout("other", tmp_path)) == (train, test)
    assert one_line(prepare(*other, "--download"), "not allowed with argument --images")


# Real catalogues


@pytest.mark.skipif(not (REAL_DATA / "fashion_catalogue").is_dir(), reason="no real data here")
def test_fashion_catalogue_goes_through_unchanged(prepare, tmp_path):
    source = REAL_DATA / "fashion_catalogue"
    tables = [source / "trainingset.tsv", source / "testset.tsv"]
    options = ("--images", source / "images", "--train", tables[0], "--test", tables[1])
    assert prepare("folder", "--dataset", "fashion", *options)[0] == 0
    layout = Layout("fashion", tmp_path)
    assert (readable(layout).n_users, readable(layout).n_items) == (1500, 2978)
    assert layout.training_set.read_bytes() == tables[0].read_bytes()
    assert layout.test_set.read_bytes() == tables[1].read_bytes()
    sizes = [
        {path.name: path.stat().st_size for path in folder.iterdir()}
        for folder in (source / "images", layout.images)
    ]
    assert sizes[0] == sizes[1]


@pytest.mark.skipif(not (REAL_DATA / "movielens_posters").is_dir(), reason="no real data here")
def test_movielens_posters_from_raw_ratings(prepare, tmp_path):
    source = REAL_DATA / "movielens_posters"
    few = tmp_path / "few"
    few.mkdir()
    for path in sorted((source / "images").iterdir())[:300]:
        shutil.copy(path, few)
    options = ("--images", few, "--interactions", source / "ratings.csv", "--header")
    assert (
        prepare("folder", "--dataset", "posters", *options, "--core", 10, "--min_rating", 3)[0] == 0
    )
    layout = Layout("posters", tmp_path)
    data = readable(layout)
    pairs = np.concatenate([data.train, data.test])
    assert np.bincount(pairs[:, 0]).min() >= 10 and np.bincount(pairs[:, 1]).min() >= 10
    # Every held-out film is the newest of its user among those that stayed.
    ratings = pd.read_csv(source / "ratings.csv", dtype={"userId": str, "movieId": str})
    when = ratings.set_index(["userId", "movieId"])["timestamp"]
    train, test = original_rows(layout)
    newest = when[train].groupby(level=0).max()
    assert all(when[pair] >= newest[pair[0]] for pair in test)
    dropped = pd.read_csv(layout.dropped_items, sep="\t", dtype=str)
    assert set(dropped["reason"]) == {"no image"}


MOVIELENS = REAL_DATA / "movielens-500"
movielens = pytest.mark.skipif(not MOVIELENS.is_dir(), reason="no real data here")


def movielens_tables():
    """Return training and test rows as text: (n, 4) object arrays."""
    return [
        pd.read_csv(MOVIELENS / name, sep="\t", header=None, dtype=str).to_numpy()
        for name in ("trainingset.tsv", "testset.tsv")
    ]


@movielens
def test_movielens_as_it_is(prepare, tmp_path):
    files = [MOVIELENS / name for name in ("trainingset.tsv", "testset.tsv")]
    options = (
        "interactions",
        "--dataset",
        "movielens-500",
        "--train",
        files[0],
        "--test",
        files[1],
    )
    assert prepare(*options)[0] == 0
    layout = Layout("movielens-500", tmp_path)
    data = load_interactions(layout, None)
    assert (data.n_users, data.n_items, len(data.train), len(data.test)) == (500, 3172, 73371, 500)
    assert np.count_nonzero(data.popularity) == 3168 and len(np.unique(data.test[:, 1])) == 406
    assert np.flatnonzero(data.popularity == 0).tolist() == [1805, 2527, 2917, 3085]
    assert (data.degrees.min(), data.degrees.max(), np.median(data.degrees)) == (19, 1225, 84.5)
    for source, written in zip(movielens_tables(), (data.train, data.test), strict=True):
        pairs = source[:, :2].astype(np.int64)
        assert (pairs[np.lexsort(pairs.T[::-1])] == written).all()
    # The unchanged source is a data set too, without a list of its items.
    bare = Layout("bare", tmp_path)
    bare.data.mkdir()
    for file in files:
        shutil.copyfile(file, bare.data / file.name)
    assert (load_interactions(bare, None).train == data.train).all()


@movielens
@pytest.mark.parametrize("validation", [False, True])
def test_movielens_in_any_order_with_any_ids(prepare, tmp_path, validation):
    rng = np.random.default_rng(4)
    parts = {}
    for name, source in zip(("train", "test"), movielens_tables(), strict=True):
        shuffled = rng.permutation(source)
        for column, letter in enumerate("ui"):
            scrambled = shuffled[:, column].astype(np.int64) * 7919 % 10007  # one to one
            shuffled[:, column] = [f"{letter}{number:x}" for number in scrambled]
        parts[name] = shuffled
    options = ("interactions", *ready_tables(tmp_path, parts, final_newline=False))
    assert prepare(*options, *(["--validation_split"] if validation else []))[0] == 0
    layout = Layout("interactions", tmp_path)
    data, pairs = load_interactions(layout, None), original_pairs(layout)
    assert (data.n_users, data.n_items) == (500, 3172)
    source = {name: {tuple(row[:2]) for row in rows} for name, rows in parts.items()}
    assert pairs["test"] == source["test"]
    assert pairs["train"] | pairs["validation"] == source["train"]
    assert len(data.train) + len(data.validation) == 73371
    assert len(data.validation) == (500 if validation else 0)
    if validation:
        time = {(user, item): int(time) for user, item, _, time in parts["train"]}
        newest = {}
        for (user, _), when in time.items():
            newest[user] = max(when, newest.get(user, 0))
        assert all(time[pair] == newest[pair[0]] for pair in pairs["validation"])
