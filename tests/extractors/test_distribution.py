"""Several processes at one stage: files equal those of one process, one line per error, no waiting."""

import multiprocessing
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import distributed

import classify_extract
import classify_extract_attack
import train_extractor
from src.artifacts.classes import read_classes
from src.artifacts.errors import UserError
from src.artifacts.item_classes import write_item_categories
from src.artifacts.parts import Parts
from src.cli import run
from src.datasets.image_set import ImageSet
from src.extractors.distribution import own_share, process_group, rank
from src.training import loop
from tests.folders import contents
from tests.scripts import run_script

ROOT = Path(__file__).parents[2]
N_IMAGES = 22
DIED = "error: one of 2 processes has died or is stuck: run the same command again to continue"

Script = tuple[Callable[[], None], str]
"""A script's ``main`` and its options."""
Setting = Callable[[], None]
"""Function that changes a process before it works."""

STAGE_1: Script = (
    classify_extract.main,
    "--dataset shop --gpu -1 --workers 0 --model_file tiny.pt --image_batch 2",
)


@dataclass(frozen=True)
class Ended:
    """End of a process: its exit code (below 0: killed by that signal) and its output."""

    code: int
    out: str
    err: str

    @property
    def parts(self) -> list[int]:
        """Parts that it saved, if ``notes_parts`` was its setting."""
        return [int(number) for number in re.findall(r"part (\d+)\n", self.err)]


def together(n: int, script: Script, settings: dict[int, Setting] | None = None) -> list[Ended]:
    """Run ``script`` by ``n`` processes, started as ``torchrun`` does it; ``settings`` by number."""
    # This server outlives the processes, like that of torchrun.
    store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    environment = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "WORLD_SIZE": str(n),
        "TORCHELASTIC_RUN_ID": "test",
        "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    context = multiprocessing.get_context("fork")
    processes = []
    for number in range(n):
        setting = (settings or {}).get(number)
        arguments = (number, environment, script, setting)
        processes.append(context.Process(target=work, args=arguments, daemon=True))
        processes[-1].start()
    ended = []
    for number, process in enumerate(processes):
        process.join(120)
        assert not process.is_alive(), f"process {number} hangs"
        streams = [Path(f"{number}.{stream}").read_text() for stream in ("out", "err")]
        ended.append(Ended(process.exitcode, *streams))
    return ended


def work(number: int, environment: dict[str, str], script: Script, setting: Setting | None) -> None:
    """Run the script in a forked process, which never returns to the test."""
    os.environ.update(environment, RANK=str(number), LOCAL_RANK=str(number))
    torch.set_num_threads(1)
    main, options = script
    sys.argv = [f"{main.__module__}.py", *options.split()]
    code = 1
    with (
        Path(f"{number}.out").open("w") as sys.stdout,
        Path(f"{number}.err").open("w") as sys.stderr,
    ):
        if setting:
            setting()
        try:
            code = run(main)
        except SystemExit as end:
            code = end.code
    os._exit(code)


def alone(script: Script) -> None:
    main, options = script
    assert run_script(main.__module__, *options.split()) == 0


def notes_parts() -> None:
    """Setting: print the numbers of the parts that are saved."""
    save = Parts.save

    def noting(self: Parts, number: int, arrays: dict[str, np.ndarray]) -> None:
        save(self, number, arrays)
        print(f"part {number}", file=sys.stderr, flush=True)

    Parts.save = noting


def is_killed_after(n_parts: int) -> Setting:
    def setting() -> None:
        notes_parts()
        save, saved = Parts.save, []

        def counting(self: Parts, number: int, arrays: dict[str, np.ndarray]) -> None:
            save(self, number, arrays)
            saved.append(number)
            if len(saved) == n_parts:
                os.kill(os.getpid(), signal.SIGKILL)

        Parts.save = counting

    return setting


def cannot_read() -> None:
    """Setting: an image that the others do not read is broken."""

    def read(self: ImageSet, position: int) -> None:
        raise UserError(f"{self.store.paths[position].name} is broken")

    ImageSet.read = read


def problems(ended: list[Ended]) -> list[str]:
    """Return the lines with errors of any of the processes."""
    return [line for end in ended for line in end.err.splitlines() if line.startswith("error")]


def written(folder: Path) -> dict[str, bytes]:
    """Return the bytes of all files without the images that a stage starts with."""
    return contents(folder, without=(".png",))


def remove(folder: Path, names: dict[str, bytes]) -> None:
    for name in names:
        (folder / name).unlink()


@pytest.fixture
def shop(tmp_path, tiny_checkpoint, monkeypatch) -> Path:
    """Data set in the working folder with images of two sizes, one of them grey."""
    images = tmp_path / "data" / "shop" / "original" / "images"
    images.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for item in range(N_IMAGES):
        coarse = Image.fromarray(generator.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        picture = coarse.resize((40 + 8 * (item % 3 == 0), 40), Image.Resampling.BICUBIC)
        picture.convert("L" if item == 5 else "RGB").save(images / f"{item}.png")
    shutil.copy(tiny_checkpoint, tmp_path / "tiny.pt")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data" / "shop"


@pytest.fixture
def stage_1() -> Script:
    """Options of stage 1 on images of two sizes, which form batches of 4 and 7."""
    return STAGE_1[0], f"{STAGE_1[1]} --resize 0"


@pytest.fixture
def stage_3(shop) -> Script:
    """Options of an attack with random starts on the most frequent class, after stage 1."""
    alone((STAGE_1[0], f"{STAGE_1[1]} --resize 40"))
    origin = int(np.bincount(read_classes(shop / "original" / "classes.csv").classes).argmax())
    options = f"{STAGE_1[1]} --origin_class {origin} --target_class {(origin + 1) % 5}"
    return classify_extract_attack.main, f"{options} --attack_type pgd --nb_iter 3 --seed 4"


def test_stage_1_leaves_the_files_of_one_process(shop, stage_1):
    alone(stage_1)
    expected = written(shop)
    assert len(expected) == 4
    remove(shop, expected)
    first, second = together(2, stage_1, dict.fromkeys(range(2), notes_parts))
    assert (first.code, second.code) == (0, 0), first.err + second.err
    assert written(shop) == expected
    assert (first.parts, second.parts) == ([0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9])
    assert "22 images of 40x40 to 48x40 pixels" in first.out
    assert "image 5: converted from L" in first.out
    assert second.out == ""
    assert "img/s" not in second.err

    first, second = together(2, stage_1)
    assert (first.code, second.code) == (0, 0)
    assert "up to date" in first.out
    assert second.out == ""


def test_one_process_continues_what_two_have_begun(shop, stage_1):
    alone(stage_1)
    expected = written(shop)
    remove(shop, expected)
    ended = together(2, stage_1, {0: is_killed_after(2), 1: notes_parts})
    assert [end.code for end in ended] == [-signal.SIGKILL, 2]
    assert problems(ended) == [DIED]
    done = [*ended[0].parts, *ended[1].parts]
    assert {0, 2} <= set(done)
    (last,) = together(1, stage_1, {0: notes_parts})
    assert last.code == 0, last.err
    assert last.parts == sorted(set(range(11)) - set(done))
    assert written(shop) == expected


def test_three_processes_continue_an_attack_that_two_have_begun(shop, stage_3):
    alone(stage_3)
    (folder,) = shop.glob("pgd*")
    expected = written(folder)
    assert "attack.tsv" in expected
    shutil.rmtree(folder)
    ended = together(2, stage_3, {0: notes_parts, 1: is_killed_after(1)})
    assert [end.code for end in ended] == [2, -signal.SIGKILL]
    assert problems(ended) == [DIED]
    assert not folder.exists()
    done = {*ended[0].parts, *ended[1].parts}
    three = together(3, stage_3, dict.fromkeys(range(3), notes_parts))
    assert [end.code for end in three] == [0, 0, 0], problems(three)
    redone = [number for end in three for number in end.parts]
    assert redone
    assert not done & set(redone)
    assert sorted([*done, *redone]) == list(range(len(done) + len(redone)))
    assert written(folder) == expected
    assert not list(shop.glob(".partial-*"))
    assert [end.out.count("success rate") for end in three] == [1, 0, 0]


def test_what_one_process_cannot_do_ends_all_with_its_line(shop, stage_1):
    ended = together(2, stage_1, {1: cannot_read})
    assert [end.code for end in ended] == [2, 2]
    assert problems(ended) == ["error: 4.png is broken"]  # the second batch is of 4 and 5
    assert not list(shop.glob("original/*.npy"))


def test_what_is_wrong_for_all_is_said_once(shop):
    (shop / "original" / "images" / "3.png").write_bytes(b"no image")
    ended = together(2, STAGE_1)
    assert [end.code for end in ended] == [2, 2]
    (line,) = problems(ended)
    assert "3.png is not a readable image" in line
    assert written(shop) == {}


def test_training_continues_after_a_process_has_died(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for item in range(40):
        shades = generator.integers(0, 128, (32, 32, 3), dtype=np.uint8)
        shades[..., item % 2] += 100
        (tmp_path / "images").mkdir(exist_ok=True)
        Image.fromarray(shades).save(tmp_path / "images" / f"{item}.png")
    write_item_categories(tmp_path / "labels.csv", np.arange(40) % 2, ("red", "green"))

    def script(out: str) -> Script:
        options = f"--images images --labels labels.csv --out {out}/model.pt --epochs 3 --batch 8"
        options += " --arch shufflenet_v2_x0_5 --gpu -1"
        return train_extractor.main, options

    def is_killed_in_second_epoch() -> None:
        save, epochs = loop._save, []

        def counting(*arguments) -> None:
            save(*arguments)
            epochs.append(1)
            if len(epochs) == 2:
                os.kill(os.getpid(), signal.SIGKILL)

        loop._save = counting

    whole = together(2, script("whole"))
    assert [end.code for end in whole] == [0, 0], problems(whole)
    assert "accuracy on held-out pictures" in whole[0].out
    assert whole[1].out == ""
    ended = together(2, script("killed"), {1: is_killed_in_second_epoch})
    assert [end.code for end in ended] == [2, -signal.SIGKILL]
    assert problems(ended) == [DIED]
    assert not Path("killed/model.pt").exists()
    assert [end.code for end in together(2, script("killed"))] == [0, 0]
    for name in ("model.pt", "model_log.tsv"):
        assert Path("killed", name).read_bytes() == Path("whole", name).read_bytes()


def writes_its_gpu() -> None:
    with process_group(int(sys.argv[1])) as gpu:
        Path(f"gpu of {rank()}").write_text(str(gpu))


def sees_another_image() -> None:
    """Setting: the process works in a folder of its own, whose last image is an other one."""
    shutil.copytree("data", "other/data")
    shutil.copy("tiny.pt", "other")
    os.chdir("other")
    images = Path("data", "shop", "original", "images")
    shutil.copy(images / "0.png", images / f"{N_IMAGES - 1}.png")


def sees_another_seed() -> None:
    sys.argv[sys.argv.index("--seed") + 1] = "5"


def test_processes_that_see_different_data_say_so_once_before_any_work(shop, stage_1):
    ended = together(2, stage_1, {1: sees_another_image})
    assert [end.code for end in ended] == [2, 2]
    (line,) = problems(ended)
    assert line.startswith("error: the processes of torchrun see different data or options of ")
    assert contents(shop, without=(".png",)) == {}


def test_processes_with_different_options_say_so_once(shop, stage_3):
    ended = together(2, stage_3, {1: sees_another_seed})
    assert [end.code for end in ended] == [2, 2]
    (line,) = problems(ended)
    assert line.startswith("error: the processes of torchrun see different data or options of ")
    assert not list(shop.glob("pgd*"))


@pytest.mark.parametrize(
    ("gpu", "expected"), [(-1, ["-1", "-1"]), (0, ["0", "1"]), (2, ["2", "3"])]
)
def test_each_process_has_a_gpu_of_its_own(tmp_path, monkeypatch, gpu, expected):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    ended = together(2, (writes_its_gpu, str(gpu)))
    assert [end.code for end in ended] == [0, 0]
    assert [Path(f"gpu of {number}").read_text() for number in range(2)] == expected


def test_nothing_is_joined_without_torchrun(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")  # job schedulers set it too
    monkeypatch.delenv("TORCHELASTIC_RUN_ID", raising=False)
    with process_group(3) as gpu:
        assert gpu == 3
        assert not distributed.is_initialized()
        assert own_share([4, 1, 7]) == [4, 1, 7]


def test_torchrun_shows_the_line_and_fails(shop, stage_1, python):
    (shop / "original" / "images" / "3.png").write_bytes(b"no image")
    command = [python.program, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    command += [str(ROOT / "classify_extract.py"), *stage_1[1].split()]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert result.returncode == 1
    assert len(re.findall(r"^error: .*3\.png is not a readable image", result.stderr, re.M)) == 1
