"""Interrupted downloads, dead links, and dangerous archives."""

import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from src.artifacts.errors import UserError
from src.datasets.archive import unpack
from tests.real_data import REAL_DATA
from tests.scripts import one_line

ROOT = Path(__file__).parents[2]
MOVIELENS = REAL_DATA / "movielens-500"


def dataset_members(name, prefix=""):
    return {
        f"{prefix}{name}/trainingset.tsv": b"0\t0\n",
        f"{prefix}{name}/testset.tsv": b"0\t1\n",
        f"{prefix}{name}/original/images/0.jpg": b"first",
        f"{prefix}{name}/original/images/1.jpg": os.urandom(3000),
    }


def zipped(members):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(members, mode="w:gz"):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def saved(path, content):
    path.write_bytes(content)
    return path


# The archive module


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_unpack_everything_or_some(tmp_path, pack):
    members = dataset_members("tradesy", "data/") | dataset_members("amazon_men", "data/")
    archive = saved(tmp_path / "all", pack(members))
    assert unpack(archive, tmp_path / "whole") == [tmp_path / "whole" / "data"]
    for name, content in members.items():
        assert (tmp_path / "whole" / name).read_bytes() == content
    assert unpack(archive, tmp_path / "some", ["tradesy"]) == [tmp_path / "some" / "tradesy"]
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == ["tradesy"]
    picture = tmp_path / "some" / "tradesy" / "original" / "images" / "0.jpg"
    assert picture.read_bytes() == b"first"
    with pytest.raises(UserError, match="exists already"):
        unpack(archive, tmp_path / "some", ["tradesy", "amazon_men"])
    with pytest.raises(UserError, match=r"holds no folder amazon_women \(at its top: data\)"):
        unpack(archive, tmp_path / "none", ["amazon_women"])
    assert not (tmp_path / "none").exists()


def test_the_older_folder_name_is_understood(tmp_path):
    archive = saved(tmp_path / "a.zip", zipped(dataset_members("tradesy_original")))
    unpack(archive, tmp_path / "data", ["tradesy"])
    assert (tmp_path / "data" / "tradesy" / "original" / "images" / "0.jpg").exists()


@pytest.mark.parametrize(
    "name",
    ["/etc/evil", "../evil", "tradesy/../../evil", "C:\\evil", "..\\evil", "tradesy\\..\\..\\evil"],
)
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_members_that_leave_the_folder(tmp_path, pack, name):
    archive = saved(tmp_path / "a", pack(dataset_members("tradesy") | {name: b"evil"}))
    with pytest.raises(UserError, match=r"is refused: its member .* would leave the folder"):
        unpack(archive, tmp_path / "data", ["tradesy"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a"]


def linked_zip():
    info = zipfile.ZipInfo("tradesy/link")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return zipped({info: "/etc/passwd"} | dataset_members("tradesy"))


def linked_tar(kind):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        info = tarfile.TarInfo("tradesy/link")
        info.type, info.linkname = kind, "/etc/passwd"
        archive.addfile(info)
    return stream.getvalue()


@pytest.mark.parametrize(
    "content",
    [linked_zip()]
    + [linked_tar(kind) for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE)],
    ids=["zip", "symbolic", "hard", "device"],
)
def test_links_and_devices_are_refused(tmp_path, content):
    with pytest.raises(
        UserError, match="is refused: its member 'tradesy/link' is a link or a device"
    ):
        unpack(saved(tmp_path / "a", content), tmp_path / "data")
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize("pack", [zipped, tarred])
def test_damaged_archives(tmp_path, pack):
    whole = pack(dataset_members("tradesy"))
    for content in (whole[: len(whole) // 2], b"<!doctype html>"):
        with pytest.raises(UserError, match=r"damaged|neither a zip nor a tar"):
            unpack(saved(tmp_path / "a", content), tmp_path / "data")
    flipped = bytearray(zipped(dataset_members("tradesy")))
    flipped[len(flipped) // 2] ^= 255
    with pytest.raises(UserError, match="damaged"):
        unpack(saved(tmp_path / "a", bytes(flipped)), tmp_path / "data")
    assert not (tmp_path / "data").exists() or not list((tmp_path / "data").iterdir())
    with pytest.raises(UserError, match="missing file"):
        unpack(tmp_path / "none", tmp_path / "data")


def test_a_file_inside_a_file(tmp_path):
    archive = saved(tmp_path / "a", zipped({"a/b": b"1", "a/b/c": b"2"}))
    with pytest.raises(UserError, match="twice"):
        unpack(archive, tmp_path / "data")


# The script


@pytest.fixture
def download(tmp_path, web_server):
    """Run the script in its own tree; return (exit code, stdout, stderr)."""
    shutil.copy(ROOT / "download_datasets.sh", tmp_path)
    (tmp_path / "src").symlink_to(ROOT / "src")

    def call(*names):
        environment = os.environ | {
            "PYTHON": sys.executable,
            "VAR_ARCHIVE_URL": f"{web_server.url}/all.zip",
            "VAR_MOVIELENS_URL": f"{web_server.url}/movielens-500",
        }
        done = subprocess.run(
            ["bash", tmp_path / "download_datasets.sh", *names],
            env=environment,
            capture_output=True,
            text=True,
        )
        return done.returncode, done.stdout, done.stderr

    return call


def test_published_data_sets(download, tmp_path, web_server):
    members = dataset_members("amazon_men", "x/") | dataset_members("tradesy", "x/")
    web_server.files["/all.zip"] = zipped(members)
    code, output, errors = download("amazon_men", "tradesy")
    assert code == 0, errors
    for name in ("amazon_men", "tradesy"):
        assert f"unpacked data/{name}" in output
        images = tmp_path / "data" / name / "original" / "images"
        assert (images / "1.jpg").read_bytes() == members[f"x/{name}/original/images/1.jpg"]
        assert (tmp_path / "rec_results" / name).is_dir() and (tmp_path / "chr" / name).is_dir()
    code, output, _ = download("amazon_men")
    assert code == 0 and "is there already" in output and len(web_server.requests) == 1


def test_a_broken_download_continues(download, tmp_path, web_server):
    content = zipped(dataset_members("tradesy"))
    web_server.files["/all.zip"] = content
    web_server.cuts["/all.zip"] = 1000
    assert one_line(download("tradesy"), "put it at data/var_datasets.zip and run this again")
    assert (tmp_path / "data" / "var_datasets.zip.part").stat().st_size == 1000
    code, _, errors = download("tradesy")
    assert code == 0, errors
    assert web_server.requests == [("/all.zip", None), ("/all.zip", "bytes=1000-")]
    assert (tmp_path / "data" / "var_datasets.zip").read_bytes() == content


def test_a_server_that_cannot_continue_starts_anew(download, tmp_path, web_server):
    web_server.files["/all.zip"] = zipped(dataset_members("tradesy"))
    web_server.ranges = False
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "var_datasets.zip.part").write_bytes(b"x" * 10)
    code, _, errors = download("tradesy")
    assert code == 0, errors
    assert (tmp_path / "data" / "tradesy" / "testset.tsv").exists()


def test_a_part_that_is_whole_is_used(download, tmp_path, web_server):
    web_server.files["/all.zip"] = zipped(dataset_members("tradesy"))
    (tmp_path / "data").mkdir()
    part = saved(tmp_path / "data" / "var_datasets.zip.part", web_server.files["/all.zip"])
    assert download("tradesy")[0] == 0 and not part.exists()
    assert (tmp_path / "data" / "tradesy" / "testset.tsv").exists()


def test_dead_links_say_what_to_do_by_hand(download, tmp_path, web_server):
    assert one_line(download("tradesy"), "get it by hand from https://drive.google.com/")
    web_server.files["/all.zip"] = b"<!DOCTYPE html><title>quota</title>"
    assert one_line(download("tradesy"), "gave a web page: get the archive by hand")
    assert not (tmp_path / "data" / "var_datasets.zip").exists()
    (tmp_path / "data" / "var_datasets.zip").write_bytes(zipped(dataset_members("tradesy")))
    assert download("tradesy")[0] == 0
    assert one_line(download("movielens-500"), "put the file at data/movielens-500/trainingset.tsv")
    assert one_line(download("movielens"), "unknown data set movielens")


def test_an_evil_archive_is_refused(download, tmp_path, web_server):
    web_server.files["/all.zip"] = zipped(dataset_members("tradesy") | {"../../evil": b"1"})
    assert one_line(download("tradesy"), "would leave the folder")
    assert not (tmp_path / "data" / "tradesy").exists() and not (tmp_path.parent / "evil").exists()


def test_an_incomplete_data_set_is_named(download, web_server):
    members = dataset_members("tradesy")
    del members["tradesy/testset.tsv"]
    web_server.files["/all.zip"] = zipped(members)
    assert one_line(download("tradesy"), "the archive has no tradesy/testset.tsv")


def test_movielens_checksum(download, tmp_path, web_server):
    web_server.files["/movielens-500/trainingset.tsv"] = b"0\t0\n"
    assert one_line(download("movielens-500"), "has the wrong checksum")
    assert not (tmp_path / "data" / "movielens-500" / "trainingset.tsv").exists()


@pytest.mark.skipif(not MOVIELENS.is_dir(), reason="no real data here")
def test_movielens(download, tmp_path, web_server):
    for name in ("trainingset.tsv", "testset.tsv"):
        web_server.files[f"/movielens-500/{name}"] = (MOVIELENS / name).read_bytes()
    web_server.cuts["/movielens-500/trainingset.tsv"] = 5000
    assert one_line(download("movielens-500"), "cannot download")
    assert download("movielens-500")[0] == 0
    for name in ("trainingset.tsv", "testset.tsv"):
        written = tmp_path / "data" / "movielens-500" / name
        assert written.read_bytes() == (MOVIELENS / name).read_bytes()
    asked = len(web_server.requests)
    assert download("movielens-500")[0] == 0 and len(web_server.requests) == asked
