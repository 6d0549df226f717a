"""Wrong options and missing files give one line before a framework is loaded."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.warm_python import WarmPython, warm_python

ROOT = Path(__file__).parents[2]
PROBE = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print(sorted({"torch", "tensorflow", "timm"} & set(sys.modules)))
"""


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Data set with one unclassified image."""
    root = tmp_path_factory.mktemp("shop")
    images = root / "data" / "shop" / "original" / "images"
    images.mkdir(parents=True)
    (images / "0.jpg").write_bytes(b"never read")
    (root / "items.csv").write_text("1,hats\n")
    return root


@pytest.fixture(scope="module")
def python(tmp_path_factory) -> Iterator[WarmPython]:
    """Python that has loaded no framework."""
    folder = tmp_path_factory.mktemp("python")
    with warm_python(folder, os.environ, ["pandas", "scipy.stats"]) as warm:
        yield warm


SHOP = "--dataset shop"
TRAIN = "train_extractor --out x.pt"
FARE = f"{TRAIN} --recipe fare --pretrained items.csv"
SET = "--dataset fashion --data ."
CALLS = {
    f"classify_extract {SHOP} --arch resnet5": "no classifier 'resnet5'",
    f"classify_extract {SHOP} --model_file no.pt": "no checkpoint at no.pt",
    "classify_extract --dataset absent": "no data set at",
    f"classify_extract {SHOP} --arch timm:vit_base_patch16_clip_224.openai": "timm",
    f"classify_extract {SHOP} --gpu -1 --precision tf32": "tf32 needs a CUDA device",
    f"classify_extract {SHOP} --gpu -1 --decoder gpu": "--decoder gpu needs a CUDA device",
    f"{TRAIN} {SET} --gpu -1 --precision tf32": "tf32 needs a CUDA device",
    f"audits.robustness {SET} --gpu -1 --precision tf32": "tf32 needs a CUDA device",
    f"classify_extract {SHOP} --head none": "add --classes FILE",
    f"classify_extract {SHOP} --head none --classes no.csv": "missing file: no.csv",
    f"classify_extract {SHOP} --head class_means --classes items.csv": "no class of item 0",
    f"classify_extract {SHOP} --arch resnet18 --head zero_shot": "only networks of open_clip",
    f"classify_extract_attack {SHOP} --head none": "attack --head class_means",
    f"classify_extract_attack {SHOP} --origin_class hats": "classes have numbers",
    "classify_extract_attack --dataset absent": "no data set at",
    f"classify_extract_attack {SHOP}": "run first: python classify_extract.py",
    f"{TRAIN} --arch resnet5 {SET}": "no classifier 'resnet5'",
    f"{TRAIN} --arch no.py:make {SET}": "missing file: no.py",
    f"audits.robustness --arch no.py:make {SET}": "missing file: no.py",
    f"{TRAIN} --pretrained no.pt {SET}": "missing file: no.pt",
    f"{TRAIN} --images no --labels no.csv": "no image folder at no",
    f"{TRAIN} --images . --labels no.csv": "missing file: no.csv",
    f"{TRAIN} --recipe fare --images no": "--pretrained FILE",
    f"{FARE} --images no": "no image folder at no",
    f"{FARE.replace('fare', 'fare_rec')} --images data/shop/original/images --dataset absent "
    "--score_model VBPR": "no data set at",
    f"{TRAIN} --dataset fashion --data no": "no data at no",
    f"{TRAIN} --dataset nonsense --data .": "no data set layout 'nonsense'",
    f"audits.robustness --checkpoint no.pt {SET}": "missing file: no.pt",
    f"audits.robustness --arch resnet5 {SET}": "no classifier 'resnet5'",
    "audits.robustness --dataset fashion --data no": "no data at no",
    "audits.rankings --checkpoint no.pt": "missing file: no.pt",
    "audits.rankings --arch resnet5": "no classifier 'resnet5'",
    "audits.rankings --images . --labels no.csv": "missing file: no.csv",
    "audits.rankings --dataset absent": "no data set at",
    "audits.bounds --dataset absent": "no data set at",
    "audits.reliance --dataset absent": "no data set at",
    f"audits.bounds {SHOP} --method ibp --sigma 1": "belong to --method smoothing",
    f"audits.bounds {SHOP} --score_model VBPR": "run rec_generator.py first",
    f"audits.bounds {SHOP}": "name it by --score_model or --weights",
    "audits.attention --dataset absent": "no data set at",
    f"audits.attention {SHOP}": "no attacked experiment at",
    "audits.leaks --checkpoint no.pt --data .": "missing file: no.pt",
    "audits.leaks --random_weights --arch resnet5 --data .": "no classifier 'resnet5'",
    "audits.leaks --random_weights --arch lenet_zhu --data no": "no data at no",
    f"rec_generator {SHOP}": "features.npy: run classify_extract.py first, or for attacked",
    "rec_generator --dataset absent": "no data set at",
}


@pytest.mark.parametrize("call", CALLS)
def test_one_line_and_no_framework(call, shop, python):
    script, *options = call.split()
    done = subprocess.run(
        [python.program, "-", script, *options],
        input=PROBE,
        cwd=shop,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert CALLS[call] in done.stderr
    assert done.stdout == "[]\n"
