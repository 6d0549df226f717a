"""Names, paths, atomic writes, manifests and the files that pass between stages."""

import errno
import json
import multiprocessing
import os
import shlex
import signal
import string
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.artifacts.arrays import write_array
from src.artifacts.atomic import atomic_output, atomic_outputs, partial_path, staging_folder
from src.artifacts.classes import (
    Classes,
    read_attacked_classes,
    read_classes,
    write_attacked_classes,
    write_classes,
)
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import read_features, write_features
from src.artifacts.layout import Layout
from src.artifacts.locks import hold, release
from src.artifacts.manifest import Manifest, fingerprint, read_record, record_path
from src.artifacts.program import AUDITS
from src.artifacts.stage import Stage
from src.artifacts.tables import read_pairs

PGD = "eps8.0_eps_it8.0_nb_it10_linf"


@pytest.mark.parametrize(
    ("model_dir", "attack", "parameters", "name"),
    [
        (None, "fgsm", "eps4.0_it1_linf_XX", "fgsm_774_770_eps4.0_it1_linf_XX"),
        ("madry", "pgd", PGD, "madry_pgd_774_770_eps8.0_eps_it8.0_nb_it10_linf"),
        ("free_adv", "mine", "x", "free_adv_mine_774_770_x"),
    ],
)
def test_published_experiment_names(model_dir, attack, parameters, name):
    experiment = Experiment(model_dir, attack, 774, 770, parameters)
    assert experiment.name == name
    assert Experiment.parse(name) == experiment


def test_clean_names_and_options_beyond_the_paper():
    assert Experiment().name == "original"
    assert Experiment("free_adv").name == "free_adv_original"
    attacked = Experiment("free_adv", "pgd", 1, None, f"{PGD}_restarts5")
    assert attacked.name == "free_adv_pgd_1_any_eps8.0_eps_it8.0_nb_it10_linf_restarts5"
    assert attacked.clean == Experiment("free_adv")
    assert attacked.extractor == "free_adv"


@pytest.mark.parametrize("name", ["", "../original", "pgd_774", "originals", "pgd_a_b_eps8", "a/b"])
def test_other_experiment_names_are_refused(name):
    with pytest.raises(UserError):
        Experiment.parse(name)


model_dirs = st.none() | st.text(string.ascii_lowercase + "_", min_size=1).filter(
    lambda text: text[0] != "_" and text[-1] != "_"
)


@given(
    model_dir=model_dirs,
    epochs=st.integers(0, 9999),
    seed=st.integers(0, 99),
    model=st.sampled_from(["VBPR", "AMR", "VBPRfull", "BPRMF", "AMF-full", "AMFbias", "Pop"]),
    protocol=st.sampled_from(["retrained", "test_time"]),
    fidelity=st.sampled_from(["corrected", "paper"]),
    attacked=st.booleans(),
    options=st.lists(
        st.sampled_from(
            ["_K8", "_lr0.05", "_lr0.05-1e-05-0.001", "_reductionmean", "_eps0.3", "_adv3"]
        )
    ).map("".join),
)
def test_run_names_read_back(model_dir, epochs, seed, model, protocol, fidelity, attacked, options):
    experiment = Experiment(model_dir)
    if attacked:
        experiment = Experiment(model_dir, "pgd", 774, 770, PGD)
    run = Run(experiment, model, epochs, 150, seed, protocol, fidelity, options)
    assert Run.parse(run.name) == run
    weights = replace(run, protocol="retrained")
    assert Run.parse_weights_name(weights.weights_name) == weights


def test_published_run_and_weight_names():
    run = Run(Experiment())
    layout = Layout("tradesy", Path("/r"))
    assert layout.recommendations(run) == Path(
        "/r/rec_results/tradesy/original_top150_ep4000_VBPR.tsv"
    )
    assert layout.weights(replace(run, epochs=2000)).name == "original_step2000_VBPR.npz"
    attacked = Run(Experiment(None, "pgd", 1, 2, PGD), seed=3, protocol="test_time", options="_K8")
    assert attacked.name.endswith("_top150_ep4000_VBPR_testtime_K8_seed3")
    assert attacked.clean == Run(Experiment(), seed=3, options="_K8")


@pytest.mark.parametrize("dataset", ["../elsewhere", "", "a/b", ".hidden"])
def test_data_sets_stay_inside_the_tree(dataset):
    with pytest.raises(UserError, match="plain name"):
        Layout(dataset)


def test_atomic_outputs_appear_together_or_not_at_all(tmp_path):
    first, second = tmp_path / "a.csv", tmp_path / "b.npy"
    first.write_text("before")
    with pytest.raises(RuntimeError), atomic_outputs(first, second) as (one, two):
        one.write_text("half")
        two.write_text("half")
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.csv"]
    assert first.read_text() == "before"
    with atomic_outputs(first, second) as (one, two):
        one.write_text("after")
        two.write_text("after")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "b.npy"]
    assert first.read_text() == "after"


WRITERS = {
    "features.npy": "write_features(path, np.zeros((100, 90)))",
    "image.tiff": "write_image(path, Image.fromarray(np.zeros((90, 90, 3), np.uint8)), 'tiff')",
    "image.jpg": "write_image(path, Image.effect_noise((300, 300), 90), 'jpeg')",
    "part.npz": "np.savez(path, x=np.zeros(9000))",
}


@pytest.mark.parametrize("name", WRITERS)
def test_full_disk_is_one_line_and_leaves_nothing(name, tmp_path):
    """The kernel's file-size limit replaces a full disk: it cuts the last byte of a file off."""
    code = (
        "import resource, sys\n"
        "import numpy as np\n"
        "from pathlib import Path\n"
        "from PIL import Image\n"
        "from src.artifacts.atomic import atomic_output\n"
        "from src.artifacts.features import write_features\n"
        "from src.artifacts.images import write_image\n"
        "from src.cli import run\n"
        "def main():\n"
        f"    with atomic_output(Path({str(tmp_path / name)!r})) as path:\n"
        f"        {WRITERS[name]}\n"
        "if run(main):\n"
        "    sys.exit(1)\n"
        f"whole = Path({str(tmp_path / name)!r})\n"
        "size = whole.stat().st_size\n"
        "whole.unlink()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (size - 1, size - 1))\n"
        "sys.exit(run(main))\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 2
    assert result.stderr == f"error: no space to write {tmp_path / name}: File too large\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("array", [np.arange(6.0).reshape(2, 3).T, np.zeros((0, 4)), np.int8(3)])
def test_arrays_are_written_as_numpy_writes_them(array, tmp_path):
    write_array(tmp_path / "own.npy", array)
    np.save(tmp_path / "numpy.npy", np.ascontiguousarray(array))
    assert (tmp_path / "own.npy").read_bytes() == (tmp_path / "numpy.npy").read_bytes()


def test_manifest_follows_options_inputs_and_outputs(tmp_path):
    source, output = tmp_path / "in.txt", tmp_path / "out.txt"
    source.write_text("1")
    manifest = Manifest.of("stage", {"seed": 0}, [source])
    assert not manifest.is_current([output])
    output.write_text("result")
    manifest.write([output])
    assert manifest.is_current([output])
    assert not Manifest.of("stage", {"seed": 1}, [source]).is_current([output])
    assert read_record(output)["versions"]["numpy"] == np.__version__

    output.write_text("edited by hand")
    assert not manifest.is_current([output])
    output.write_text("result")
    source.write_text("2")
    assert not Manifest.of("stage", {"seed": 0}, [source]).is_current([output])


def test_outputs_that_share_a_name_are_told_apart(tmp_path):
    outputs = [tmp_path / folder / "a.tsv" for folder in ("lists", "ranks")]
    for output in outputs:
        output.parent.mkdir()
        output.write_text(output.parent.name)
    manifest = Manifest.of("stage", {}, [])
    manifest.write(outputs)
    assert set(read_record(outputs[0])["outputs"]) == {"lists/a.tsv", "ranks/a.tsv"}
    for output in outputs:
        assert manifest.is_current(outputs)
        output.write_text("changed")
        assert not manifest.is_current(outputs)
        output.write_text(output.parent.name)


def made(outputs, source, *, force=False):
    """Run a stage that copies ``source`` to both outputs; return whether it wrote them."""
    stage = Stage(Manifest.of("copy", {"seed": 0}, [source]), outputs, name="the copies")
    if stage.is_up_to_date(force):
        return False
    stage.parts.save(0, {"half": np.arange(3)})
    with stage.publish() as files:
        for file in files:
            file.write_text(source.read_text())
    stage.say_written()
    return True


def test_two_inputs_with_equal_ends_have_names_and_hashes_of_their_own(tmp_path):
    files = [tmp_path / name for name in ("a/x/in.csv", "b/x/in.csv", "c/y/in.csv")]
    for file in files:
        file.parent.mkdir(parents=True)
        file.write_text(file.parts[-3])
    inputs = Manifest.of("stage", {}, [*files, files[0]]).inputs
    assert sorted(inputs) == ["a/x/in.csv", "b/x/in.csv", "y/in.csv"]
    assert len(set(inputs.values())) == 3


def test_a_stage_publishes_records_and_then_skips(tmp_path, capsys):
    source, outputs = tmp_path / "in.txt", [tmp_path / "new" / name for name in ("a.txt", "b.txt")]
    source.write_text("1")
    assert made(outputs, source)
    assert capsys.readouterr().out == f"written:\n  {outputs[0]}\n  {outputs[1]}\n"
    assert set(outputs[0].parent.iterdir()) == {*outputs, record_path(outputs[0])}
    assert not made(outputs, source)
    assert capsys.readouterr().out == "the copies is up to date (use --force to redo)\n"
    assert made(outputs, source, force=True)
    outputs[1].unlink()
    assert made(outputs, source)
    source.write_text("2")
    assert made(outputs, source)
    assert outputs[1].read_text() == "2"


def test_a_stage_that_fails_changes_nothing_and_keeps_its_parts(tmp_path):
    source, outputs = tmp_path / "in.txt", [tmp_path / "a.txt", tmp_path / "b.txt"]
    source.write_text("1")
    assert made(outputs, source)
    source.write_text("2")
    stage = Stage(Manifest.of("copy", {"seed": 0}, [source]), outputs)
    stage.parts.save(0, {"half": np.arange(3)})
    with pytest.raises(ValueError, match="broken"), stage.publish() as files:
        files[0].write_text("half")
        raise ValueError("broken")
    assert [path.read_text() for path in outputs] == ["1", "1"]
    assert not stage.manifest.is_current(outputs)
    assert stage.parts.unfinished(1) == []


@pytest.mark.parametrize(
    ("script", "program"),
    [
        ("report.py", ["python", "report.py"]),
        (AUDITS / "leaks.py", ["python", "-m", "audits.leaks"]),
    ],
)
def test_the_recorded_command_can_be_pasted(tmp_path, monkeypatch, script, program):
    arguments = ["--out", "it's here.tsv", "--attack", "ES:pm=*"]
    monkeypatch.setattr(sys, "argv", [str(script), *arguments])
    output = tmp_path / "out.txt"
    output.write_text("result")
    Manifest.of("stage", {}, []).write([output])
    assert shlex.split(read_record(output)["command"]) == program + arguments


def test_manifest_survives_a_broken_record(tmp_path):
    output = tmp_path / "out.txt"
    output.write_text("result")
    manifest = Manifest.of("stage", {}, [])
    (tmp_path / "out.txt.manifest.json").write_text("{half")
    assert not manifest.is_current([output])


def test_fingerprint_of_a_folder_is_its_names_and_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    for folder in ("a", "b"):
        (tmp_path / folder / "1.jpg").write_bytes(b"x")
    assert fingerprint(tmp_path / "a") == fingerprint(tmp_path / "b")
    (tmp_path / "b" / "1.jpg").rename(tmp_path / "b" / "2.jpg")
    assert fingerprint(tmp_path / "a") != fingerprint(tmp_path / "b")
    with pytest.raises(UserError, match="missing file"):
        fingerprint(tmp_path / "c")


CLASSES = Classes(
    np.array([3, 10]), np.array([774, 770]), ["sandal", 'running "shoe", red'], np.r_[0.5, 1]
)


def test_classes_read_back(tmp_path):
    path = tmp_path / "classes.csv"
    write_classes(path, CLASSES)
    assert path.read_text().splitlines()[0] == "ImageID,ClassNum,ClassStr,Prob"
    classes = read_classes(path)
    assert classes.labels == CLASSES.labels
    assert classes.of(770).tolist() == [10]
    assert classes.label_of(774) == "sandal"
    assert classes.rows(np.array([10])).labels == ['running "shoe", red']
    with pytest.raises(UserError, match="no image is classified as class 5"):
        classes.of(5)


def test_attacked_classes_keep_where_they_started(tmp_path):
    path = tmp_path / "classes.csv"
    start = Classes(np.array([3, 10]), np.array([7, 7]), ["a", "a"], np.r_[0.25, 0.5])
    write_attacked_classes(path, CLASSES, start)
    header = "ImageID,ClassNum,ClassStr,Prob,ClassNumStart,ClassStrStart,ProbStart"
    assert path.read_text().splitlines()[0] == header
    attacked, before = read_attacked_classes(path)
    assert attacked.classes.tolist() == [774, 770]
    assert before.classes.tolist() == [7, 7]
    assert before.probabilities.tolist() == [0.25, 0.5]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("", "is empty"),
        ("a,b\n1,2\n", "lacks the columns"),
        ("ImageID,ClassNum,ClassStr,Prob\nx,1,a,0.5\n", "row 2: ImageID 'x' is not an id"),
        ("ImageID,ClassNum,ClassStr,Prob\n1,1,a,0.5\n1,1,a,0.5\n", "twice"),
    ],
)
def test_wrong_classes_are_refused(tmp_path, content, complaint):
    path = tmp_path / "classes.csv"
    path.write_text(content)
    with pytest.raises(UserError, match=complaint):
        read_classes(path)


def test_features_read_back_and_are_checked(tmp_path):
    path = tmp_path / "features.npy"
    features = np.arange(6, dtype=np.float64).reshape(3, 2)
    write_features(path, features)
    read = read_features(path, 3)
    assert read.dtype == np.float32 and (read == features).all()
    with pytest.raises(UserError, match="3 rows but the catalogue has 4"):
        read_features(path, 4)
    features[1, 1] = np.nan
    with pytest.raises(UserError, match="item 1 are NaN or infinite"):
        write_features(path, features)
    np.save(path, features)
    with pytest.raises(UserError, match="row 1 holds NaN"):
        read_features(path)
    path.write_bytes(b"not an array")
    with pytest.raises(UserError, match="not a plain NumPy array"):
        read_features(path)
    np.save(path, np.array([{"a": 1}]), allow_pickle=True)
    with pytest.raises(UserError, match="not a plain NumPy array"):
        read_features(path)
    with pytest.raises(UserError, match="missing file"):
        read_features(tmp_path / "none.npy")


def test_a_staging_folder_is_removed_with_what_is_left_in_it(tmp_path):
    place = tmp_path / "images"
    partial_path(place).mkdir()
    (partial_path(place) / "of a killed run").write_text("x")
    for number in (1, 2):
        with staging_folder(place) as staging:
            assert staging.parent == tmp_path and not any(staging.iterdir())
            (staging / "left").mkdir()
            (staging / "finished").mkdir()
            (staging / "finished").rename(tmp_path / f"images{number}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images1", "images2"]
    with pytest.raises(KeyboardInterrupt), staging_folder(place) as staging:
        (staging / "half").write_text("x")
        raise KeyboardInterrupt
    assert not staging.exists() and not place.exists()


def test_a_full_disk_names_what_was_written(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError) as raised, staging_folder(tmp_path / "images"):
        raise full
    assert raised.value.filename == str(tmp_path / "images")
    with pytest.raises(OSError) as raised, staging_folder(tmp_path / "others"):
        raise OSError(errno.ENOSPC, "No space left on device", "its own name")
    assert raised.value.filename == "its own name"


def test_atomic_output_passes_errors_on(tmp_path):
    with pytest.raises(OSError, match="space"), atomic_output(tmp_path / "x"):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert json.dumps([path.name for path in tmp_path.iterdir()]) == "[]"


def test_a_wrong_row_far_down_a_long_table_is_named_by_its_number(tmp_path):
    path, n_rows = tmp_path / "long.tsv", 2**20 + 5
    path.write_bytes(b"0\t1\n" * (n_rows - 1) + b"0\tone\n")
    with pytest.raises(UserError, match=rf"row {n_rows}: item 'one' is not an id"):
        read_pairs(path)


def test_features_are_mapped_and_the_file_stays_as_it_is(tmp_path):
    path = tmp_path / "features.npy"
    write_features(path, np.ones((3, 2)))
    before = path.read_bytes()
    read_features(path)[0] = 7
    assert path.read_bytes() == before


def test_a_second_process_waits_for_the_one_that_makes_an_output(tmp_path):
    output, fork = tmp_path / "out.txt", multiprocessing.get_context("fork")
    held, holds = fork.Pipe()

    def first() -> None:
        with atomic_output(output) as temporary:
            holds.send(None)
            holds.recv()
            temporary.write_text("first")

    def second() -> None:
        sys.stderr = errors
        with atomic_output(output) as temporary:
            was_there = output.read_text()
            temporary.write_text(f"second after {was_there}")

    read, write = os.pipe()
    errors = os.fdopen(write, "w", buffering=1)
    processes = [fork.Process(target=work, daemon=True) for work in (first, second)]
    processes[0].start()
    held.recv()
    processes[1].start()
    errors.close()
    with os.fdopen(read) as lines:
        assert lines.readline() == f"waiting for another process that makes {output}\n"
        assert not output.exists()
        held.send(None)
        for process in processes:
            process.join(60)
    assert [process.exitcode for process in processes] == [0, 0]
    assert output.read_text() == "second after first"
    assert list(tmp_path.iterdir()) == [output]


def test_a_lock_ends_with_its_process(tmp_path):
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from src.artifacts.locks import hold\n"
        f"hold(Path({str(tmp_path / 'out')!r}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    folder = Path(__file__).parents[2]
    killed = subprocess.run([sys.executable, "-c", code], cwd=folder, check=False)
    assert killed.returncode == -signal.SIGKILL
    hold(tmp_path / "out")  # it would hang if the lock were still held
    release(tmp_path / "out")


def test_a_link_that_leads_to_itself_has_a_lock(tmp_path):
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    with atomic_output(loop) as temporary:
        temporary.write_text("result")
    assert loop.read_text() == "result" and not loop.is_symlink()


def test_a_stage_whose_end_was_killed_discards_its_parts(tmp_path, capsys):
    output = tmp_path / "out.txt"
    stage = Stage(Manifest.of("stage", {}, ()), [output])
    output.write_text("result")
    stage.manifest.write([output])
    stage.parts.save(0, {"x": np.zeros(1)})
    assert stage.is_up_to_date(force=False)
    assert not stage.parts.folder.exists()
    assert "up to date" in capsys.readouterr().out
