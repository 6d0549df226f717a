"""Full disks, for every stage that writes: files that may not grow beyond a limit, and small disks.

A small disk is a tmpfs that only the process of the stage sees, where the kernel lets a user mount one.
"""

import ctypes
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
import torch

from src.artifacts.atomic import PARTIAL_PREFIX
from tests.faults import kills, tree
from tests.faults.cases import Figures

_SHOP, _ON_CPU = "--dataset shop", "--gpu -1"
_NETWORK = f"{_SHOP} --model_file net.pt {_ON_CPU} --workers 0"
_ATTACK = "--items random:8 --target_class 0 --attack_type pgd --eps 8 --nb_iter 6"
_LISTS = f"{_SHOP} --topk 5"

STAGES: Mapping[str, str] = {
    "interactions": "prepare_dataset interactions --dataset pairs --train data/shop/trainingset.tsv"
    " --test data/shop/testset.tsv",
    "pictures": "prepare_dataset folder --dataset copy --images data/shop/original/images"
    " --interactions data/shop/trainingset.tsv",
    **{name: stage.command for name, stage in kills.STAGES.items() if stage.n_processes == 1},
    "success": f"evaluate_attack {_NETWORK} {_ATTACK}",
    "features": f"feature_loss {_NETWORK} {_ATTACK}",
    "lists as arrays": f"rec_generator {_LISTS} --model Pop --lists npz {_ON_CPU}",
    "measures": f"evaluate_rec {_LISTS} --metric all --analyzed_k 5",
    "report": f"report {_LISTS}",
    "parameters": f"audits.parameters {_LISTS} --epoch 6 --model VBPR --attack fgsm --eps 0.5 1 --lists",
    "images": f"audits.images score --all {_NETWORK}",
    "triplets": "audits.images triplets --images data/shop/original/images --max_images 12"
    " --out results/triplets",
    "robustness": f"audits.robustness --checkpoint net.pt --dataset catalogue --data data/shop"
    f" --resize 32 --max_images 4 --attacks clean fgsm --out results/robust.tsv {_ON_CPU}",
    "conversion": "audits.convert_checkpoint net.pt models/converted.pt --i_trust_this_file",
}
"""Command lines of stages that write, each of which finds the files of those before."""


_WITHOUT_FORCE = ("conversion",)
_PAGE = 4096
"""Bytes by which files on a tmpfs grow."""
_NEW_USERS, _NEW_MOUNTS = 0x10000000, 0x00020000
"""Flags of unshare(2)."""


def fill_the_disk(start: Path, names: Sequence[str], n_limits: int, seed: int) -> Figures:
    """Run the stages ``names`` under at most ``n_limits`` limits each, and judge what they leave.

    A limit is a byte less than one of their files, or 0. Where small disks can be mounted, they run on
    ``n_limits`` disks as well, which have room for a random part of what they write. A stage must end
    with one line and leave no unfinished file, and files that are whole or as before. With ``--force``
    all files stay as before.
    """
    figures, rng = Figures(), np.random.default_rng(seed)
    n_disks = n_limits if can_mount() else 0
    figures.counts["small disks cannot be mounted here"] += not n_disks
    with kills.copy(start, "filled") as place:
        for name in (name for name in STAGES if name in names):
            command, before = STAGES[name], kills.files(place)
            with kills.copy(place, "before") as earlier:
                outcome = _run(_work, place, command, resource.RLIM_INFINITY)
                assert outcome.code == 0, (name, outcome)
                whole = kills.files(place)
                changed = {path for path in whole if before.get(path) != whole[path]}
                limits = np.array(sorted({0, *(max(len(whole[path]) - 1, 0) for path in changed)}))
                for limit in rng.choice(limits, min(n_limits, len(limits)), replace=False):
                    with kills.copy(earlier, "limited") as root:
                        outcome = _run(_work, root, command, int(limit))
                        case = f"{name} within {limit} bytes"
                        _judge(figures, case, root, outcome, whole, before)
                n_pages = sum(_pages(len(whole[path])) for path in changed)
                for free in rng.integers(0, n_pages, n_disks):
                    with kills.copy(earlier, "limited") as root:
                        outcome = _run(_work_on_disk, root, command, int(free))
                        case = f"{name} with {free} free pages"
                        _judge(figures, case, root, outcome, whole, before)
                        figures.counts["runs on a small disk"] += 1
            if name not in _WITHOUT_FORCE:
                with kills.copy(place, "limited") as root:
                    outcome = _run(_work, root, f"{command} --force", int(limits[-1]))
                    _judge(figures, f"{name} again", root, outcome, whole, whole)
    return figures


def _judge(
    figures: Figures,
    case: str,
    root: Path,
    outcome: tree.Outcome,
    whole: Mapping[str, bytes],
    before: Mapping[str, bytes],
) -> None:
    """Count a run under a limit, and note what it must not have done."""
    figures.counts["runs on a full disk"] += 1
    figures.counts["runs on a full disk that had to end"] += outcome.code == 2
    if outcome.code not in (0, 2) or len(outcome.errors) != (outcome.code == 2):
        figures.wrong.append(f"{case}: {outcome}")
    elif outcome.code == 2 and not outcome.errors[0].startswith("error: no space to write "):
        figures.wrong.append(f"{case}: {outcome.errors[0]}")
    figures.wrong += [f"{case}: left {path}" for path in kills.discarded(root)]
    found = {
        path: content
        for path, content in kills.files(root).items()
        if PARTIAL_PREFIX not in path and not path.endswith("manifest.json")
    }
    broken = [path for path in found if found[path] not in (whole.get(path), before.get(path))]
    lost = [path for path in before if path not in found and not path.endswith("manifest.json")]
    figures.wrong += [f"{case}: {path} is broken" for path in broken]
    figures.wrong += [f"{case}: {path} is lost" for path in lost]


def _run(
    work: Callable[[Path, str, int, Connection], None], root: Path, command: str, limit: int
) -> tree.Outcome:
    """Run a command line in a process of its own, by ``work``."""
    here, there = kills.SERVER.Pipe(duplex=False)
    process = kills.SERVER.Process(target=work, args=(root, command, limit, there), daemon=True)
    process.start()
    there.close()
    try:
        return here.recv()
    finally:
        process.kill()
        process.join()


def _work(root: Path, command: str, limit: int, outcome: Connection) -> None:
    """Run a command line whose files may have ``limit`` bytes."""
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    outcome.send(tree.call(root, command))


def _work_on_disk(root: Path, command: str, n_free: int, outcome: Connection) -> None:
    """Run a command line on a disk with the tree and ``n_free`` free pages; copy the tree back."""
    n_used = sum(_pages(path.stat().st_size) for path in root.rglob("*") if path.is_file())
    with tempfile.TemporaryDirectory() as folder:
        disk = Path(folder)
        _mount(disk, n_used + n_free)  # before torch has threads, with which it is forbidden
        torch.set_num_threads(1)
        shutil.copytree(root, disk, dirs_exist_ok=True)
        end = tree.call(disk, command)
        shutil.rmtree(root)
        shutil.copytree(disk, root)
        ctypes.CDLL(None).umount(os.fsencode(disk))
    outcome.send(end)


def _pages(n_bytes: int) -> int:
    return -(-n_bytes // _PAGE)


def can_mount() -> bool:
    """Return whether a process may mount a small disk."""
    with tempfile.TemporaryDirectory() as folder:
        process = kills.SERVER.Process(target=_try_to_mount, args=(Path(folder),))
        process.start()
        process.join()
    return process.exitcode == 0


def _try_to_mount(folder: Path) -> None:
    try:
        _mount(folder, 1)
    except OSError:
        sys.exit(1)


def _mount(folder: Path, n_pages: int) -> None:
    """Mount a disk at ``folder`` that this process alone sees; ``OSError`` where that is forbidden."""
    user, group = os.getuid(), os.getgid()
    _call("unshare", _NEW_USERS | _NEW_MOUNTS)
    for name, text in (
        ("setgroups", "deny"),
        ("uid_map", f"0 {user} 1"),
        ("gid_map", f"0 {group} 1"),
    ):
        Path("/proc/self", name).write_text(text)
    size = f"size={max(n_pages, 1) * _PAGE}"  # 0 would be no limit
    _call("mount", b"tmpfs", os.fsencode(folder), b"tmpfs", 0, size.encode())


def _call(function: str, *arguments: int | bytes) -> None:
    """Call a function of the C library; ``OSError`` if it fails."""
    library = ctypes.CDLL(None, use_errno=True)
    if getattr(library, function)(*arguments):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
