"""Readers of artifacts refuse what no stage writes, in one line that names the file and the row."""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest

from src.artifacts.arrays import read_array, read_arrays
from src.artifacts.attack_report import read_attack_report
from src.artifacts.classes import read_classes
from src.artifacts.columns import read_results, read_text
from src.artifacts.errors import UserError
from src.artifacts.features import read_feature_rows, read_features, write_features
from src.artifacts.manifest import Manifest, read_record, record_path, require_as_written
from src.artifacts.parts import Parts
from src.artifacts.tables import read_ids, read_pairs, read_test_ranks, read_top_k

NO_IDS = ["-5", "1.5", "", "nan", "inf", "9" * 25, "2147483648", "x", "1e400", "0x10"]
CLASSES = "ImageID,ClassNum,ClassStr,Prob\n"
REPORT = "image\tsuccess_before_rounding\tsuccess\tlinf\tl2\n"


def refused(read, *arguments, message: str | None = None) -> None:
    """Assert that ``read`` raises a ``UserError`` of one line that names its file."""
    with pytest.raises(UserError, match=message) as caught:
        read(*arguments)
    assert str(arguments[0]) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("wrong", NO_IDS)
def test_an_id_is_a_small_whole_number(tmp_path, wrong):
    path = tmp_path / "table"
    for read, content, row in (
        (read_pairs, f"0\t1\n{wrong}\t1\n", 2),
        (read_pairs, f"0\t1\n0\t2\n1\t{wrong}\n", 3),
        (read_ids, f"3\n{wrong}\t\n", 2),
        (read_top_k, f"0\t1\t0.5\n0\t{wrong}\t0.25\n", 2),
        (read_test_ranks, f"0\t1\t3\t9\n1\t1\t{wrong}\t9\n", 2),
        (read_classes, f"{CLASSES}0,1,a,0.5\n{wrong},1,a,0.5\n", 3),
        (read_classes, f"{CLASSES}0,{wrong},a,0.5\n", 2),
        (read_attack_report, f"{REPORT}0\t1\t1\t8\t1\n{wrong}\t1\t1\t8\t1\n", 3),
    ):
        path.write_text(content)
        refused(read, path, message=f"row {row}")


@pytest.mark.parametrize("wrong", ["-0.1", "1.01", "", "nan", "inf", "x"])
def test_a_probability_is_from_0_to_1(tmp_path, wrong):
    path = tmp_path / "classes.csv"
    path.write_text(f"{CLASSES}0,1,a,{wrong}\n")
    refused(read_classes, path, message="row 2: Prob")


@pytest.mark.parametrize("score", ["nan", "inf", "-inf", "", "1e39", "x"])
def test_a_score_is_finite_in_float32(tmp_path, score):
    path = tmp_path / "lists.tsv"
    path.write_text(f"0\t1\t2.5\n0\t2\t{score}\n")
    refused(read_top_k, path, message="row 2: score")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0\t1\t2\n0\t4\t1\n0\t1\t0.5\n", "user 0 has item 1 twice"),
        ("0\t1\t2\n1\t4\t1\n1\t2\t1.5\n", "user 1 do not descend"),
        ("0\t1\t2\n9\t4\t1\n", "only 2 of the 10 numbers"),
        ("0\t1\t2\n1000000000\t4\t1\n", "only 2 of"),
        ("0\t1\n", "3 tab-separated columns"),
    ],
)
def test_lists_that_no_recommender_writes_are_refused(tmp_path, content, message):
    path = tmp_path / "lists.tsv"
    path.write_text(content)
    refused(read_top_k, path, message=message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("0\t1\t3\t9\n1\t1\t3\t9\n0\t1\t2\t9\n", "row 3: user 0 has item 1 twice"),
        ("0\t1\t3\t9\n1\t1\t10\t9\n", "row 2: rank 10 of 9"),
    ],
)
def test_ranks_that_no_recommender_writes_are_refused(tmp_path, content, message):
    path = tmp_path / "ranks.tsv"
    path.write_text(content)
    refused(read_test_ranks, path, message=message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (REPORT.encode(), "has no rows"),
        (REPORT.encode("utf-16"), "not a table"),
        (bytes(range(256)) * 4, "not a table|lacks the columns"),
        (f"{REPORT}0\t1\t1\t8\t1\t7\n".encode(), "longer than its header"),
        (f"{REPORT}0\t1\t1\t8\t1\n1\t1\t1\t8\t1\t7\t7\n".encode(), "line 3"),
        (f"{REPORT}0\t1\t1\t8\t1\n0\t1\t1\t8\t1\n".encode(), "image 0 appears twice"),
        (f"{REPORT}0\t1\t2\t8\t1\n".encode(), "row 2: success"),
        (f"{REPORT}0\t1\t1\t-8\t1\n".encode(), "row 2: linf"),
        (f"{REPORT}0\t1\t1\t8\tinf\n".encode(), "row 2: l2"),
        (b"image\n0\n", "lacks the columns success"),
    ],
)
def test_reports_that_no_attack_writes_are_refused(tmp_path, content, message):
    path = tmp_path / "attack.tsv"
    path.write_bytes(content)
    refused(read_attack_report, path, ["success", "l2"], message=message)


def test_a_report_has_the_attacked_images_and_no_others(tmp_path):
    path = tmp_path / "attack.tsv"
    path.write_text(f"{REPORT}3\t\t\t8\t1\n1\t1\t0\t8\t1\n")
    table = read_attack_report(path, ["success"], np.array([1, 3]))
    assert table["image"].tolist() == [3, 1] and np.isnan(table["success"][0])
    for images in ([1], [1, 3, 4], [1, 2]):
        refused(read_attack_report, path, ["success"], np.array(images), message="image [234] ")


def npy(array: np.ndarray, claimed: str | None = None) -> bytes:
    """Return the bytes of a ``.npy`` file, whose header may claim another shape of as many digits."""
    stream = io.BytesIO()
    np.save(stream, array)
    content = stream.getvalue()
    if claimed is None:
        return content
    at = content.index(b"(")
    assert content[at + len(claimed) :].startswith((b", ", b" "))
    return content[:at] + claimed.encode() + content[at + len(claimed) :]


def test_features_are_a_matrix_of_the_length_that_its_header_says(tmp_path):
    path = tmp_path / "features.npy"
    whole = npy(np.ones((1000, 2), np.float32))
    zipped = io.BytesIO()
    np.savez(zipped, features=np.ones((3, 2)))
    for content in (
        b"",
        b"text",
        whole[:-1],
        whole + b"\0",
        whole.replace(b"(1000, 2)", b"(9999999999, 2)"),
        whole.replace(b"(1000, 2)", b"(9999, 2)"),
        whole.replace(b"'<f4'", b"'|O'  "),
        zipped.getvalue(),
    ):
        path.write_bytes(content)
        refused(read_features, path)
        refused(read_feature_rows, path, np.array([0]))
    for wrong in (np.ones((3, 0)), np.ones(3), np.ones((3, 2), int), np.ones((2, 2, 2))):
        path.write_bytes(npy(wrong))
        refused(read_features, path, message="must be a matrix")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 1e300])
def test_features_are_finite_in_float32(tmp_path, value):
    path = tmp_path / "features.npy"
    features = np.ones((5, 2))
    features[3, 1] = value
    path.write_bytes(npy(features))
    refused(read_features, path, message="row 3")
    refused(read_feature_rows, path, np.array([1, 3]), message="row 3")
    assert read_feature_rows(path, np.array([4, 0])).tolist() == [[1, 1], [1, 1]]
    refused(read_feature_rows, path, np.array([5]), message="no row 5")


def test_an_archive_is_as_long_as_its_headers_say(tmp_path):
    path = tmp_path / "arrays.npz"
    np.savez(path, a=np.arange(3), b=np.ones(2))
    assert read_arrays(path)["a"].tolist() == [0, 1, 2]
    refused(read_arrays, path, ["a", "c"], message="lacks c")
    whole = path.read_bytes()
    for at in range(0, len(whole), 7):
        path.write_bytes(whole[:at])
        refused(read_arrays, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", npy(np.arange(3)).replace(b"(3,)", b"(99999999999,)"))
    refused(read_arrays, path, message="long")
    path.write_bytes(npy(np.arange(3)))
    refused(read_arrays, path)
    assert read_array(path).tolist() == [0, 1, 2]


def test_a_damaged_part_is_made_again(tmp_path, capsys):
    parts = Parts.of(Manifest.of("stage", {}, ()), tmp_path / "out.tsv")
    for number in range(3):
        parts.save(number, {"x": np.full(2, number)})
    file = parts.folder / "part_1.npz"
    content = bytearray(file.read_bytes())
    content[-120] ^= 255
    file.write_bytes(content)
    (parts.folder / "part_2.npz").write_bytes(b"")
    assert parts.unfinished(4) == [1, 2, 3]
    assert capsys.readouterr().err.count("is damaged and is made again") == 2
    assert parts.load(1) is None and parts.load(0)["x"].tolist() == [0, 0]


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "null",
        "3",
        '"text"',
        "{}",
        '{"options": [], "inputs": {}, "outputs": {}}',
        "[" * 10**5,
    ],
)
def test_a_damaged_manifest_is_refused_and_its_stage_runs_again(tmp_path, content):
    output = tmp_path / "out.txt"
    output.write_text("result")
    manifest = Manifest.of("stage", {}, ())
    record_path(output).write_text(content)
    with pytest.raises(UserError, match=r"out.txt.manifest.json is no manifest"):
        read_record(output)
    assert not manifest.is_current([output])
    record_path(output).write_bytes(b"\xff\xfe{")
    with pytest.raises(UserError, match=r"out.txt.manifest.json is no manifest"):
        read_record(output)
    manifest.write([output])
    assert manifest.is_current([output])


@pytest.fixture
def stage_output(tmp_path) -> Path:
    """File that is the second output of a recorded stage; the lists' ranks stand one folder below."""
    outputs = [
        tmp_path / "d" / "a.tsv",
        tmp_path / "d" / "b.tsv",
        tmp_path / "d" / "ranks" / "a.tsv",
    ]
    for output in outputs:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(output.name)
    Manifest.of("first", {}, ()).write(outputs)
    return outputs[0]


@pytest.mark.parametrize("name", ["a.tsv", "b.tsv", "ranks/a.tsv"])
def test_an_input_that_was_changed_by_hand_is_refused_or_accepted_aloud(
    stage_output, name, monkeypatch, capsys
):
    changed = stage_output.parent / name
    assert Manifest.of("second", {}, [changed]).accepted == ()
    changed.write_text("changed by hand")
    with pytest.raises(UserError, match=r"was changed after it was written by.*--accept_changed"):
        Manifest.of("second", {}, [changed])
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--accept_changed"])
    manifest = Manifest.of("second", {}, [changed])
    assert manifest.accepted == tuple(manifest.inputs)
    assert str(changed) in capsys.readouterr().err
    output = stage_output.with_name("out.tsv")
    output.write_text("")
    manifest.write([output])
    record = read_record(output)
    assert record["accepted_changes"] == list(record["inputs"])
    assert "--accept_changed" in record["command"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("name\tscore\n", "has no rows"),
        ("name\tother\na\t1\n", "lacks the columns score"),
        ("name\tscore\na\t1\nb\tx\n", "row 3: score 'x' is not a number"),
        ("name\tscore\na\t1\t2\t3\n", "longer than its header"),
        ("\x00\x93", "lacks the columns|is not a table|has no rows"),
    ],
)
def test_a_table_of_results_is_checked(tmp_path, content, message):
    path = tmp_path / "table.tsv"
    path.write_text("name\tscore\na\t1\nb\t\nc\tinf\n")
    assert read_results(path, ["score"], numbers=["score"])["score"].isna().tolist() == [
        False,
        True,
        False,
    ]
    path.write_text(content)
    with pytest.raises(UserError, match=message) as caught:
        read_results(path, ["score"], numbers=["score", "absent"])
    assert str(path) in str(caught.value)


def test_a_table_of_results_that_was_changed_is_refused(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("score\n1\n")
    Manifest.of("stage", {}, ()).write([path])
    assert read_results(path, ["score"])["score"].tolist() == [1]
    path.write_text("score\n2\n")
    with pytest.raises(UserError, match="was changed after it was written"):
        read_results(path, ["score"])


def test_text_keeps_its_cells(tmp_path):
    path = tmp_path / "table.tsv"
    path.write_text("id\toriginal\n0\tNA\n01\t\n")
    assert read_text(path).to_numpy().tolist() == [["0", "NA"], ["01", ""]]


def test_a_file_without_a_record_is_as_given(tmp_path, stage_output):
    given = stage_output.with_name("given.tsv")
    given.write_text("x")
    assert require_as_written(given)


def test_inputs_with_equal_ends_have_hashes_of_their_own(tmp_path):
    for number in (1, 2):
        file = tmp_path / str(number) / "original" / "features.npy"
        file.parent.mkdir(parents=True)
        write_features(file, np.full((2, 2), number))
    inputs = Manifest.of("stage", {}, sorted(tmp_path.rglob("*.npy"))).inputs
    assert len(inputs) == 2 and len(set(inputs.values())) == 2
