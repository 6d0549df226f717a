"""Kills of the long stages, and two processes of one stage at once.

Each process is forked from a server that has loaded the frameworks, and gets a signal at a random moment,
or just after a random change of the files. Then the same command runs again: its files must be those of
a run without a signal.
"""

import contextlib
import importlib
import json
import multiprocessing
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np
import torch
from torch import distributed

from src.artifacts.atomic import PARTIAL_PREFIX
from src.cli import run
from tests.faults import tree
from tests.faults.cases import Figures
from tests.folders import contents

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)
LONGEST = 300
"""Seconds after which a process counts as hanging."""
_BETWEEN_LOOKS = 0.002
"""Seconds between two looks at the files of a running stage."""
_DURATION = "seconds"
_OF_PARTS = re.compile(r"-[0-9a-f]{16}$")
"""End of the name of a folder of parts."""

_SHOP = "--dataset shop --gpu -1"
_NETWORK = f"{_SHOP} --model_file net.pt --workers 0"
_PICTURES = "--images data/shop/extractor/images --labels data/shop/extractor/labels.csv"
_TRAIN = f"train_extractor {_PICTURES} --recipe plain --arch cifar_resnet8 --batch 8 --gpu -1"
_ATTACK = f"classify_extract_attack {_NETWORK} --items random:8 --target_class 0 --attack_type pgd"
_RECOMMEND = f"rec_generator {_SHOP} --topk 5 --seed 0"

PREPARATION = (
    "prepare_dataset demo --dataset shop --items 40 --users 20 --size 32 --per_class 8",
    f"{_TRAIN} --epochs 4 --out net.pt",
    f"classify_extract {_NETWORK}",
)


@dataclass(frozen=True)
class Long:
    """Stage that is killed: its command line, and the number of its processes."""

    command: str
    n_processes: int = 1


STAGES: Mapping[str, Long] = {
    "extraction": Long(f"classify_extract {_NETWORK} --preprocess bits --image_batch 2"),
    "attack": Long(f"{_ATTACK} --eps 8 --nb_iter 6 --image_batch 2"),
    "training": Long(f"{_TRAIN} --epochs 3 --seed 1 --out models/net.pt"),
    "recommenders": Long(f"{_RECOMMEND} --model VBPR --epoch 6 --verbose 2"),
    "rankings": Long(
        f"audits.rankings {_SHOP} --checkpoint net.pt --profile rob28 --pgditer 2 --max_images 4"
        " --save_images results/attacked --compare results/embedders.tsv plain"
    ),
    "inversion": Long(
        "audits.leaks --arch lenet_zhu --random_weights --dataset catalogue --data data/shop --size 32"
        " --n_images 3 --optim inversed --iterations 6 --batch_targets 1 --defence none prune_70"
        " --out reconstructions --gpu -1"
    ),
    "attack of two processes": Long(f"{_ATTACK} --eps 4 --nb_iter 6 --image_batch 2", 2),
    "training of two processes": Long(f"{_TRAIN} --epochs 2 --seed 2 --out models/two.pt", 2),
    "ranks of two processes": Long(f"{_RECOMMEND} 1 --model Pop Random", 2),
}

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    # torch comes before TensorFlow: each brings an LLVM, and the other order aborts Python.
    ["torchvision", "src.recommenders.bpr", "src.attacks.campaign", "src.training.loop"]
)


@dataclass(frozen=True)
class Whole:
    """Run of a stage without a signal: its files, its duration in seconds, and the changes it made."""

    files: Mapping[str, bytes]
    seconds: float
    n_changes: int


def build(place: Path) -> Path:
    """Write the data set, the network and the features with which the stages start."""
    place.mkdir(parents=True)
    for command in PREPARATION:
        with _processes(place, Long(command)) as processes:
            assert _ended(processes) == [0], (command, _printed(place))
    _remove_logs(place)
    return place


def kill_all(start: Path, names: Sequence[str], n_kills: int, seed: int) -> Figures:
    """Kill the stages ``names`` in turn, ``n_kills`` times in all, and compare the files.

    A signal that came after the end of its stage is counted apart, and drawn again.
    """
    figures, rng = Figures(), np.random.default_rng(seed)
    wholes = {name: _whole(start, STAGES[name]) for name in names[:n_kills]}
    while (number := figures.counts["kills"]) < n_kills:
        name = names[number % len(names)]
        stage, whole = STAGES[name], wholes[name]
        sent = SIGNALS[int(rng.integers(len(SIGNALS)))]
        with copy(start) as root:
            case = f"kill {number} of {name} by {sent.name}"
            with _processes(root, stage) as processes:
                hit = _hit(processes, rng)
                if rng.random() < 0.5:
                    wait([process.sentinel for process in hit], rng.uniform(0, whole.seconds))
                else:
                    _wait_for_changes(root, hit, int(rng.integers(1, whole.n_changes + 1)))
                alive = [process for process in hit if process.is_alive()]
                for process in alive:
                    os.kill(process.pid, sent)
                codes = _ended(processes)
            if not any(codes):
                figures.counts["signals that came too late"] += 1
                continue
            figures.counts["kills"] += 1
            figures.wrong += [f"{case}: {what}" for what in _visible(root, start, whole)]
            if sent != signal.SIGKILL and len(hit) == len(processes):
                figures.wrong += [f"{case}: left {path.name}" for path in discarded(root)]
            with _processes(root, stage) as processes:
                codes = _ended(processes)
            problems = _differences(root, codes, whole)
            figures.counts["kills after which a run gave the same bytes"] += not problems
            figures.wrong += [f"{case}, then again: {what}" for what in problems]
    return figures


def run_twice_at_once(start: Path, names: Sequence[str], seed: int) -> Figures:
    """Run each of the stages ``names`` by two runs at once, the second a random moment later."""
    figures, rng = Figures(), np.random.default_rng(seed)
    for name in names:
        stage, whole = STAGES[name], _whole(start, STAGES[name])
        with copy(start) as root:
            with _processes(root, stage) as first:
                wait([first[0].sentinel], rng.uniform(0, whole.seconds / 10))
                with _processes(root, stage) as second:
                    codes = _ended([*first, *second])
            figures.counts["pairs of runs at once"] += 1
            figures.counts["of which one waited"] += "waiting for another" in _printed(root)
            figures.wrong += [
                f"{name} twice at once: {what}" for what in _differences(root, codes, whole)
            ]
    return figures


def _whole(start: Path, stage: Long) -> Whole:
    """Run a stage without a signal."""
    with copy(start) as root:
        with _processes(root, stage) as processes:
            began = time.monotonic()
            n_changes = _wait_for_changes(root, processes, None)
            seconds = time.monotonic() - began
            codes = _ended(processes)
        assert not any(codes), (stage, _printed(root))
        return Whole(files(root), seconds, n_changes)


@contextlib.contextmanager
def copy(start: Path, name: str = "copy") -> Iterator[Path]:
    """Yield a copy of the tree beside it, under another name, and remove it after the block."""
    root = start.with_name(name)
    shutil.rmtree(root, ignore_errors=True)
    yield tree.copy(start, root)
    shutil.rmtree(root)


@contextlib.contextmanager
def _processes(root: Path, stage: Long) -> Iterator[list[multiprocessing.Process]]:
    """Start the processes of a stage in the tree ``root``, and yield them when all are at work.

    Several find each other as those of ``torchrun`` do.
    """
    common, store = {}, None
    if stage.n_processes > 1:
        # This server outlives the processes, like that of torchrun.
        store = distributed.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
        common = {
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": str(store.port),
            "WORLD_SIZE": str(stage.n_processes),
            "TORCHELASTIC_RUN_ID": "faults",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_USE_AGENT_STORE": "True",
        }
    processes = []
    for number in range(stage.n_processes):
        own = common and {"RANK": str(number), "LOCAL_RANK": str(number)}
        here, there = SERVER.Pipe(duplex=False)
        arguments = (root, stage.command, common | own, there)
        processes.append(SERVER.Process(target=_work, args=arguments, daemon=True))
        processes[-1].start()
        there.close()
        here.recv()
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.join()
        del store


def _work(root: Path, command: str, environment: Mapping[str, str], begun: Connection) -> None:
    """Run a command line in a process of its own; what it prints goes into ``printed`` in the tree."""
    os.chdir(root)
    os.environ.update(environment)
    module, *sys.argv[1:] = command.split()
    sys.argv[0] = f"{module}.py"
    with Path("printed").open("a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    torch.set_num_threads(1)
    main = importlib.import_module(module).main

    def begin() -> None:
        begun.send(None)
        main()

    sys.exit(run(begin))


def _hit(
    processes: list[multiprocessing.Process], rng: np.random.Generator
) -> list[multiprocessing.Process]:
    """Choose the processes that get the signal: one of them, or all."""
    at = int(rng.integers(len(processes) + 1))
    return processes[at : at + 1] or processes


def _ended(processes: Sequence[multiprocessing.Process]) -> list[int]:
    """Wait for the processes to end by themselves, and return their exit codes."""
    for process in processes:
        process.join(LONGEST)
        assert process.exitcode is not None, f"{process} hangs"
    return [process.exitcode for process in processes]


def _wait_for_changes(
    root: Path, processes: list[multiprocessing.Process], n_changes: int | None
) -> int:
    """Wait until ``n_changes`` changes of files were seen or a process has ended; return their number."""
    seen = _state(root)
    n_seen = 0
    while (n_changes is None or n_seen < n_changes) and all(
        process.is_alive() for process in processes
    ):
        now = _state(root)
        n_seen += len(now ^ seen)
        seen = now
        time.sleep(_BETWEEN_LOOKS)
    return n_seen


def _state(root: Path) -> set[tuple[str, int, int]]:
    """Return the path, size and time of change of each file of the tree."""
    found = set()
    for folder, _, names in os.walk(root):
        for name in names:
            path = Path(folder) / name
            with contextlib.suppress(FileNotFoundError):
                status = path.stat()
                found.add((str(path), status.st_size, status.st_mtime_ns))
    return found


def files(root: Path) -> dict[str, bytes]:
    """Return the files of the tree without what was printed; durations are left out of their content."""
    _remove_logs(root)
    return {name: _without_durations(name, content) for name, content in contents(root).items()}


def _remove_logs(root: Path) -> None:
    (root / "printed").unlink(missing_ok=True)


def _printed(root: Path) -> str:
    return (root / "printed").read_text()


def _without_durations(name: str, content: bytes) -> bytes:
    """Leave the durations of an inversion out, and the hashes of files that hold them."""
    if not name.startswith("reconstructions") or PARTIAL_PREFIX in name:
        return content
    if name.endswith("metric.tsv"):
        rows = [line.split("\t") for line in content.decode().splitlines()]
        at = rows[0].index(_DURATION)
        return json.dumps([row[:at] + row[at + 1 :] for row in rows]).encode()
    if name.endswith(".json"):
        record = json.loads(content)
        record.pop(_DURATION, None)
        outputs = record.get("outputs", {})
        for timed in [file for file in outputs if file.endswith((".tsv", ".json"))]:
            del outputs[timed]
        return json.dumps(record).encode()
    return content


def hidden(root: Path) -> list[Path]:
    """Return the unfinished files, and the folders of unfinished stages."""
    return list(root.rglob(f"{PARTIAL_PREFIX}*"))


def discarded(root: Path) -> list[Path]:
    """Return what is hidden but the folders of parts, from which a stage continues."""
    return [path for path in hidden(root) if path.is_file() or not _OF_PARTS.search(path.name)]


def _visible(root: Path, start: Path, whole: Whole) -> list[str]:
    """Say which visible files of a killed run are not as those of a whole run."""
    wrong = []
    for name, content in files(root).items():
        if any(part.startswith(PARTIAL_PREFIX) for part in Path(name).parts):
            continue
        if not (start / name).exists() and whole.files.get(name) != content:
            wrong.append(f"{name} is half written")
    return wrong


def _differences(root: Path, codes: list[int], whole: Whole) -> list[str]:
    """Say in what a tree differs from that of a whole run."""
    if any(codes):
        return [f"exit codes {codes}: {_printed(root).strip()[-300:]}"]
    found = files(root)
    names = {name for name in {*found, *whole.files} if found.get(name) != whole.files.get(name)}
    left = {path.name for path in hidden(root)}
    return [f"{name} differs" for name in sorted(names)] + [f"{name} is left" for name in left]
