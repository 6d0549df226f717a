"""Splits with several held-out items, and tables in the layouts of published data sets."""

import gzip
import importlib.util
import json
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.tables import read_ids, read_pairs
from src.datasets.feedback_table import read_feedback
from src.datasets.interactions import load_interactions
from src.datasets.mapping import IdMap
from src.datasets.splitting import Feedback, Splitting
from tests.scripts import one_line
from tests.small_shops import source_rows

MMREC = "userID\titemID\trating\ttimestamp\tx_label\n"


def written(path, text):
    path.write_text(text)
    return path


def rows_of(feedback):
    users, items = feedback.user_ids, feedback.item_ids
    return [
        (users[user], items[item])
        for user, item in zip(feedback.users, feedback.items, strict=True)
    ]


def some_feedback(timed=True):
    """Return feedback of users with 1, 2, 3, 9, 10 and 40 distinct items, and random times."""
    rng = np.random.default_rng(4)
    rows = [(f"u{n}", f"i{item}") for n in (1, 2, 3, 9, 10, 40) for item in rng.permutation(50)[:n]]
    times = rng.integers(0, 20, len(rows)).astype(float) if timed else None
    return Feedback.of(*zip(*rows, strict=True), times)


# Splits


def test_ratio_holds_out_shares_of_each_user_but_leaves_a_training_row():
    feedback = some_feedback()
    split = Splitting("ratio", (8, 1, 1)).split(feedback)
    parts = {kind: Counter(user for user, _ in rows_of(of)) for kind, of in split.parts.items()}
    assert parts["test"] == {"u2": 1, "u3": 1, "u9": 1, "u10": 1, "u40": 4}
    assert parts["validation"] == {"u3": 1, "u9": 1, "u10": 1, "u40": 4}
    assert parts["training"] == {"u1": 1, "u2": 1, "u3": 1, "u9": 7, "u10": 8, "u40": 32}
    together = [row for of in split.parts.values() for row in rows_of(of)]
    assert sorted(together) == sorted(rows_of(feedback))


def test_ratio_depends_on_the_seed_alone():
    feedback = some_feedback()
    first, again = (Splitting("ratio", seed=3).split(feedback) for _ in range(2))
    assert rows_of(first.test) == rows_of(again.test)
    assert rows_of(first.test) != rows_of(Splitting("ratio", seed=4).split(feedback).test)


def test_temporal_cuts_all_users_at_the_same_times():
    split = Splitting("temporal", (8, 1, 1)).split(some_feedback())
    times = {kind: of.times for kind, of in split.parts.items()}
    assert times["training"].max() < times["validation"].min()
    assert times["validation"].max() < times["test"].min()
    known = {user for user, _ in rows_of(split.train)}
    assert {user for user, _ in rows_of(split.test)} <= known
    assert len(split.train) >= 0.6 * len(some_feedback())


def test_two_shares_leave_no_validation_part():
    split = Splitting("ratio", (9, 1)).split(some_feedback())
    assert split.validation is None and len(split.test) == 1 + 1 + 1 + 1 + 4


def test_cold_items_have_no_training_row_and_all_their_rows_in_the_test_part():
    feedback = some_feedback()
    split = Splitting("ratio", cold_share=0.3, seed=1).split(feedback)
    cold = set(split.cold_items)
    assert cold and not cold & {item for _, item in rows_of(split.train)}
    assert not cold & {item for _, item in rows_of(split.validation)}
    known = {user for user, _ in rows_of(split.train)}
    expected = {(user, item) for user, item in rows_of(feedback) if item in cold and user in known}
    assert expected == {row for row in rows_of(split.test) if row[1] in cold}


def test_cold_items_are_listed_in_the_data_set(prepare, tmp_path):
    rows = "".join(f"u{user},i{item},{item}\n" for user in range(6) for item in range(20))
    table = written(tmp_path / "all.csv", "user,item,time\n" + rows)
    options = ("interactions", "--interactions", table, "--cold_items", 0.2)
    assert prepare(*options, "--split", "temporal")[0] == 0
    layout = Layout("interactions", tmp_path)
    data = load_interactions(layout, None)
    cold = read_ids(layout.cold_items)
    assert len(cold) == 4 and (data.popularity[cold] == 0).all()
    assert set(cold) <= set(data.test[:, 1].tolist())
    assert "is up to date" in prepare(*options, "--split", "temporal")[1]


def test_wrong_splits_are_one_line(prepare, tmp_path):
    untimed = written(tmp_path / "all.csv", "user,item\nu,a\nu,b\nv,a\nv,c\n")
    options = ("interactions", "--interactions", untimed)
    new_users = written(
        tmp_path / "new.csv", "user,item,time\n" + "".join(f"u{n},a,{n}\n" for n in range(20))
    )
    unlabelled = written(tmp_path / "some.inter", MMREC + "0\t0\t5\t1\t0\n0\t1\t5\t1\t3\n")
    unchosen = written(tmp_path / "unchosen.inter", f"{MMREC}u\ta\t5\t1\t0\nu\tb\t5\t2\t2\n")
    cases = [
        ((*options, "--split", "temporal"), "--split temporal needs times"),
        ((*options, "--split", "given"), "all.csv has no column x_label"),
        ((*options, "--split", "ratio", "--ratio", 8, 0, 1), "--ratio takes 2 or 3 positive"),
        ((*options, "--cold_items", 1), "--cold_items must be at least 0 and below 1"),
        (
            ("interactions", "--interactions", new_users, "--split", "temporal"),
            "no test row is left: no user with a training row",
        ),
        (
            ("interactions", "--interactions", unlabelled, "--split", "given"),
            "some.inter, line 3: x_label 3 is not 0, 1 or 2",
        ),
        (
            ("interactions", "--interactions", unchosen, "--split", "given"),
            "unchosen.inter has no row with x_label 1 (0 training, 1 validation, 2 test): a split",
        ),
        (
            ("interactions", "--train", untimed, "--test", untimed, "--split", "ratio"),
            "--split, --cold_items and --sequences are for --interactions",
        ),
    ]
    for arguments, message in cases:
        assert one_line(prepare(*arguments), message)
    assert not (tmp_path / "data" / "interactions").exists()


# Tables


@pytest.mark.parametrize(
    ("name", "text", "rows", "times"),
    [
        (
            "recbole.inter",
            "user_id:token\titem_id:token\trating:float\ttimestamp:float\nu\t007\t5\t12\nv\t7\t4\t13\n",
            [("u", "007"), ("v", "7")],
            [12, 13],
        ),
        (
            "mmrec.inter",
            MMREC + "0\t3\t5.0\t978300760\t0\n",
            [("0", "3")],
            [978300760],
        ),
        (
            "transactions_train.csv",
            't_dat,customer_id,article_id,price,sales_channel_id\n2018-09-20,00ab,"0663713001",0.05,2\n'
            "2018-09-21,00ab,0541518023,0.03,2\n",
            [("00ab", "0663713001"), ("00ab", "0541518023")],
            [1537401600, 1537488000],
        ),
        (
            "Pixel50K.csv",
            "item_id,user_id,timestamp\nv34,u2,1659283200\n",
            [("u2", "v34")],
            [1659283200],
        ),
        (
            "ratings.csv",  # MovieLens
            "userId,movieId,rating,timestamp\n1,0307,4.0,964982703\n",
            [("1", "0307")],
            [964982703],
        ),
        (
            "MicroLens-50k_pairs.csv",
            "user,item,timestamp\n10,2,1583378629552\n",
            [("10", "2")],
            [1583378629552],
        ),
        (
            "Amazon_Fashion.csv",
            "user_id,parent_asin,rating,timestamp\nAE1,B00,5.0,1602133857705\n",
            [("AE1", "B00")],
            [1602133857705],
        ),
        (
            "german.csv",
            "Item ID;Date;User ID\n4;2026-07-14T12:00:00+02:00;x\n",
            [("x", "4")],
            [1784023200],
        ),
        ("no_header.csv", "1,2\n3,04\n", [("1", "2"), ("3", "04")], None),
    ],
)  # fmt: skip
def test_tables_in_published_layouts(tmp_path, name, text, rows, times):
    feedback = read_feedback(written(tmp_path / name, text))
    assert rows_of(feedback) == rows
    assert (feedback.times if times is None else feedback.times.tolist()) == times
    packed = tmp_path / f"{name}.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    assert rows_of(read_feedback(packed)) == rows


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("userID\trating\ttimestamp\n1\t2\t3\n", "no column of item ids among userID, rating"),
        ("item_id:token\tprice:float\n1\t2\n", "no column of user ids among item_id:token"),
        ("user,item,time\n1,2,2026-07-14\n1,3,noon\n", "line 3: time 'noon' is not a number, and"),
        (
            "user,item,time\n1,2,5\n1,3,2026-07-14\n",
            "line 3: time '2026-07-14' is not a number, and",
        ),
        ("user,item\n1,\n", "line 2: no item id"),
    ],
)
def test_wrong_tables_with_headers(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        read_feedback(written(tmp_path / "wrong.inter", text))


def test_parquet_is_read_by_names_or_says_what_it_needs(tmp_path):
    path = tmp_path / "reviews.parquet"
    frame = pd.DataFrame({"parent_asin": ["B1"], "user_id": ["U"], "timestamp": [7]})
    if any(importlib.util.find_spec(name) for name in ("pyarrow", "fastparquet")):
        frame.to_parquet(path)
        feedback = read_feedback(path)
        assert rows_of(feedback) == [("U", "B1")] and feedback.times.tolist() == [7]
    else:
        path.write_bytes(b"PAR1")
        with pytest.raises(UserError, match="parquet needs a reader: pip install pyarrow"):
            read_feedback(path)


def test_microlens_sequences_hold_out_the_last_item(prepare, tmp_path):
    table = written(tmp_path / "pairs.tsv", "u\t5 6 7\nv\t7 5\n")
    options = ("interactions", "--interactions", table, "--sequences")
    assert prepare(*options)[0] == 0
    layout = Layout("interactions", tmp_path)
    assert source_rows(layout, layout.test_set) == [("u", "7"), ("v", "5")]
    written(table, "u\t5 6\nv\n")
    assert one_line(prepare(*options, "--force"), "line 2: not a user, a tab and items")


# Features that come ready


def mmrec(tmp_path, features=None):
    """Write a set in MMRec's layout whose users have several test items; user 7 has one test row."""
    rng = np.random.default_rng(0)
    rows = [
        (user, item, 5.0, 100 + item, 0 if place < 2 else place - 1)
        for user in range(4)
        for place, item in enumerate(rng.permutation(5)[:4])
    ]
    rows += [(0, next(i for i in range(5) if (0, i) not in {r[:2] for r in rows}), 5.0, 9, 2)]
    rows += [(7, 0, 5.0, 200, 2)]
    text = MMREC + "".join("\t".join(map(str, row)) + "\n" for row in rows)
    if features is None:
        features = rng.normal(size=(5, 3))
    np.save(tmp_path / "image_feat.npy", features)
    return written(tmp_path / "baby.inter", text), tmp_path / "image_feat.npy", rows


def test_mmrec_files_make_a_data_set_without_images(prepare, tmp_path):
    table, features, rows = mmrec(tmp_path)
    options = ("interactions", "--dataset", "baby", "--interactions", table, "--split", "given")
    code, said, _ = prepare(*options, "--features", features)
    assert code == 0 and "without a training row, who are left out: 1" in said
    layout = Layout("baby", tmp_path)
    for label, path in enumerate((layout.training_set, layout.validation_set, layout.test_set)):
        expected = {(str(u), str(i)) for u, i, *_, of in rows if of == label and u != 7}
        assert set(source_rows(layout, path)) == expected
    assert np.unique(read_pairs(layout.test_set)[:, 0], return_counts=True)[1].max() == 2
    read = read_features(layout.features(Experiment()), 5)
    np.testing.assert_array_equal(read, np.load(features).astype(np.float32))
    assert "is up to date" in prepare(*options, "--features", features)[1]


def test_rows_of_features_may_have_ids(prepare, tmp_path):
    table = written(tmp_path / "a.inter", "user_id:token\titem_id:token\nu\tx\nu\tz\n")
    np.save(tmp_path / "features.npy", np.arange(6.0).reshape(3, 2))
    ids = written(tmp_path / "ids.txt", "z\ny\nx\n")
    options = ("interactions", "--interactions", table, "--features", tmp_path / "features.npy")
    assert one_line(prepare(*options), "none of item 'x': ids that are not rows 0..n-1 need")
    assert prepare(*options, "--feature_items", ids)[0] == 0
    layout = Layout("interactions", tmp_path)
    assert IdMap.read(layout.item_map).originals == ("x", "y", "z")
    assert read_features(layout.features(Experiment())).tolist() == [[4, 5], [2, 3], [0, 1]]
    written(ids, "z\ny\n")
    assert one_line(prepare(*options, "--feature_items", ids, "--force"), "has 2 ids, 2 of them")


@pytest.mark.parametrize(
    ("features", "message"),
    [
        (np.ones((4, 3)), "image_feat.npy has 4 rows and none of item '4'"),
        (np.ones((6, 3)), "image_feat.npy has 6 rows, but the interactions are of items 0 to 4"),
        (np.full((5, 3), np.nan), "row 0 holds NaN or infinite features"),
        (np.ones(5), "must be a matrix of floats"),
    ],
)
def test_wrong_features_write_nothing(prepare, tmp_path, features, message):
    table, path, _ = mmrec(tmp_path, features=features)
    options = ("--interactions", table, "--split", "given", "--features", path)
    assert one_line(prepare("interactions", *options), message)
    assert not (tmp_path / "data" / "interactions").exists()


# Sources with images


def jpeg(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 5, 3), value, np.uint8)).save(path)


def test_h_and_m_keeps_leading_zeros_and_finds_images_in_folders(prepare, tmp_path):
    articles = ("0108775015", "0108775044", "0110065001")
    for value, article in enumerate(articles):
        jpeg(tmp_path / "images" / article[:3] / f"{article}.jpg", value)
    lines = [
        f"2018-09-2{day},{customer},{article},0.05,2\n"
        for customer in ("00a", "00b")
        for day, article in enumerate(articles)
    ]
    head = "t_dat,customer_id,article_id,price,sales_channel_id\n"
    table = written(tmp_path / "transactions_train.csv", head + "".join(lines))
    options = ("--interactions", table, "--images", tmp_path / "images")
    assert prepare("folder", "--dataset", "hm", *options)[0] == 0
    layout = Layout("hm", tmp_path)
    assert IdMap.read(layout.item_map).originals == articles
    assert source_rows(layout, layout.test_set) == [
        ("00a", "0110065001"),
        ("00b", "0110065001"),
    ]


def test_amazon_2023_reads_the_fields_of_its_edition(prepare, tmp_path):
    def review(user, item, day, rating=5.0):
        fields = {"rating": rating, "title": "t", "text": "x", "images": [], "asin": f"{item}v"}
        ids = {"parent_asin": item, "user_id": user, "timestamp": 1602133857705 + day}
        return json.dumps(fields | ids | {"helpful_vote": 0, "verified_purchase": True})

    def product(item, categories):
        large = f"https://shop.example/{item}.jpg"
        images = [{"thumb": "t", "large": large, "variant": "MAIN", "hi_res": None}]
        fields = {"main_category": "AMAZON FASHION", "title": "t", "images": images}
        return json.dumps(fields | {"categories": categories, "parent_asin": item})

    items = ("B1", "B2", "B3")
    reviews = [review(user, item, day) for user in "UV" for day, item in enumerate(items)]
    reviews += [review("U", "OTHER", 9), review("W", "B1", 3, rating=1.0)]
    men = ["Clothing, Shoes & Jewelry", "Men", "Shoes"]
    products = [product(item, men) for item in items] + [product("OTHER", ["Sports"])]
    for name, lines in {"reviews": reviews, "meta": products}.items():
        packed = gzip.compress("\n".join(lines).encode())
        (tmp_path / f"{name}.jsonl.gz").write_bytes(packed)
    for value, item in enumerate(items):
        jpeg(tmp_path / "images" / f"{item}.jpg", value)
    options = ("--reviews", tmp_path / "reviews.jsonl.gz", "--metadata", tmp_path / "meta.jsonl.gz")
    options += ("--images", tmp_path / "images", "--core", 2, "--min_rating", 3)
    assert prepare("amazon", *options)[0] == 0
    layout = Layout("amazon_men", tmp_path)
    assert source_rows(layout, layout.test_set) == [("U", "B3"), ("V", "B3")]
