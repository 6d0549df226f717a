"""Exchange of .npy files with a checkout of MMRec (GPL-3), which trains its recommenders there.

`export` writes interactions and features into the checkout, `score` trains there and saves all scores,
`lists` turns the scores into lists and ranks of held-out items here. Only `score` imports MMRec.
"""

import src.interrupts

import argparse
import os
import re
import sys
from pathlib import Path

import numpy as np

from src.artifacts.atomic import atomic_output, atomic_outputs
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.features import read_features
from src.artifacts.layout import Layout
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.artifacts.tables import write_test_ranks, write_top_k
from src.cli import Parser, add_common_options, run
from src.datasets.catalogue import count_items
from src.datasets.interactions import load_interactions
from src.recommenders.command import not_negative, positive
from src.recommenders.data import TrainingData

HEADER = "userID\titemID\trating\ttimestamp\tx_label"
CONFIG = """\
USER_ID_FIELD: userID
ITEM_ID_FIELD: itemID
TIME_FIELD: timestamp
filter_out_cod_start_users: True
inter_file_name: '{name}.inter'
vision_feature_file: 'image_feat.npy'
text_feature_file: 'text_feat.npy'
field_separator: "\\t"
"""
USERS_AT_ONCE = 1024


def parse_options() -> argparse.Namespace:
    parser = Parser(__doc__)
    parser.add_argument("verb", choices=("export", "score", "lists"))
    add_common_options(parser, dataset="tradesy", gpu=-1)
    parser.add_argument("--checkout", type=Path, required=True, help="folder of MMRec")
    parser.add_argument("--experiment_name", default="original", help="clean or attacked features")
    parser.add_argument("--model", default="VBPR", help="recommender of MMRec: FREEDOM, BM3, ...")
    parser.add_argument(
        "--name", help="its name in lists, of letters and '-' (default: MMRec- and --model)"
    )
    parser.add_argument(
        "--epoch", type=positive, help="largest number of epochs (default: MMRec's)"
    )
    parser.add_argument("--seed", type=not_negative, default=0, help="seed of the training")
    parser.add_argument("--topk", type=positive, default=150, help="items in each list")
    options = parser.parse_args()
    if not (options.checkout / "src" / "models").is_dir():
        raise UserError(f"{options.checkout} is no checkout of MMRec: it has no src/models")
    options.name = options.name or f"MMRec-{options.model}"
    if options.verb == "lists" and not re.fullmatch(r"[A-Za-z][A-Za-z-]*", options.name):
        raise UserError(
            f"{options.name} is no name of lists: give --name, of letters and '-' alone"
        )
    return options


def main() -> None:
    options = parse_options()
    layout = Layout(options.dataset, options.root)
    experiment = Experiment.parse(options.experiment_name)
    name = f"{options.dataset}-{experiment.name}"
    folder = options.checkout / "data" / name
    scores = folder / f"scores_{options.model}_seed{options.seed}.npy"
    if options.verb == "export":
        export(options, layout, experiment, name, folder)
    elif options.verb == "score":
        score(options, name, scores.absolute())
    else:
        lists(options, layout, experiment, scores)


def export(
    options: argparse.Namespace, layout: Layout, experiment: Experiment, name: str, folder: Path
) -> None:
    """Write NAME.inter, image_feat.npy and the file of settings; MMRec needs validation rows.

    MMRec counts items by their largest id with a row, so that features end there.
    """
    layout.require_data()
    features = read_features(layout.features(experiment), count_items(layout))
    interactions = load_interactions(layout, len(features))
    if len(interactions.validation) == 0:
        raise UserError(
            f"MMRec needs validation rows, and there is no {layout.validation_set}: make it with "
            "prepare_dataset.py (--validation or --validation_split)"
        )
    parts = interactions.train, interactions.validation, interactions.test
    rows = np.vstack([np.insert(of, 2, [[1], [0], [part]], 1) for part, of in enumerate(parts)])
    folder.mkdir(parents=True, exist_ok=True)
    settings = options.checkout / "src" / "configs" / "dataset" / f"{name}.yaml"
    outputs = folder / f"{name}.inter", folder / "image_feat.npy", settings
    with atomic_outputs(*outputs) as (table, matrix, text):
        np.savetxt(table, rows, "%d", "\t", header=HEADER, comments="")
        with matrix.open("wb") as stream:
            np.save(stream, features[: rows[:, 1].max() + 1])
        text.write_text(CONFIG.format(name=name))
    print("written:", *outputs, sep="\n  ")


def score(options: argparse.Namespace, name: str, path: Path) -> None:
    """Train in the checkout, with the first value of each list of settings, and save the scores.

    They are (users, items) float32, after the last epoch.
    """
    source = (options.checkout / "src").absolute()
    if not (path.parent / f"{name}.inter").is_file():
        raise UserError(f"{path.parent} has no {name}.inter: first run the verb export")
    sys.path.insert(0, str(source))
    os.chdir(source)

    import torch
    from utils.configurator import Config
    from utils.dataloader import EvalDataLoader, TrainDataLoader
    from utils.dataset import RecDataset
    from utils.utils import get_model, get_trainer, init_seed

    settings = {"use_gpu": options.gpu >= 0, "gpu_id": options.gpu, "save_recommended_topk": False}
    config = Config(options.model, name, settings)
    for key in config["hyper_parameters"]:
        if isinstance(config[key], list):
            config[key] = config[key][0]
    config["seed"] = options.seed
    if options.epoch:
        config["epochs"] = options.epoch
    parts = RecDataset(config).split()
    for part in parts:
        str(part)  # counts what the loaders read
    batch = config["eval_batch_size"]
    held_out = [EvalDataLoader(config, of, parts[0], batch_size=batch) for of in parts[1:]]
    batches = TrainDataLoader(config, parts[0], config["train_batch_size"], shuffle=True)
    init_seed(options.seed)
    batches.pretrain_setup()
    model = get_model(options.model)(config, batches).to(config["device"])
    get_trainer()(config, model, False).fit(batches, *held_out, saved=False, verbose=False)
    model.eval()
    users = torch.arange(parts[0].get_user_num(), device=config["device"])
    with torch.no_grad():
        blocks = [model.full_sort_predict([of]).cpu() for of in users.split(USERS_AT_ONCE)]
    with atomic_output(path) as temporary, temporary.open("wb") as stream:
        np.save(stream, torch.cat(blocks).float().numpy())
    print(f"written: {path}")


def lists(options: argparse.Namespace, layout: Layout, experiment: Experiment, path: Path) -> None:
    """Write the lists and ranks of the scores of ``path``.

    Items after the last one with a row score lowest.
    """
    from src.recommenders.ranking import lists_and_ranks

    layout.require_data()
    if not path.is_file():
        raise UserError(f"no scores at {path}: first run the verb score")
    n_items = count_items(layout)
    interactions = load_interactions(layout, n_items)
    scores = np.load(path)
    n_users, n_scored = scores.shape
    if n_users != interactions.n_users or n_scored > n_items or not np.isfinite(scores).all():
        raise UserError(
            f"{path} holds scores {scores.shape}, some perhaps not finite; the data set has "
            f"{interactions.n_users} users and {n_items} items"
        )
    missing = ((0, 0), (0, n_items - n_scored))
    scores = np.pad(scores, missing, constant_values=scores.min() - 1)
    made = Run(experiment, options.name, 0, options.topk, options.seed)
    described = {"model": options.name, "seed": options.seed, "top_k": options.topk}
    inputs = (path, layout.training_set, *layout.held_out_sets)
    outputs = layout.recommendations(made), layout.test_ranks(made)
    stage = Stage(Manifest.of("recommend", described, inputs), outputs)
    known = TrainingData(interactions).at_test_time
    best, ranks = lists_and_ranks(scores, np.eye(n_items, dtype=np.float32), known, options.topk)
    with stage.publish() as (table, of_held_out):
        write_top_k(table, best)
        write_test_ranks(of_held_out, ranks)
    stage.say_written()


if __name__ == "__main__":
    sys.exit(run(main))
