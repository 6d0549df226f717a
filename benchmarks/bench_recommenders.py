"""Speed of VBPR and AMR at the size of Amazon Men beside Cornac in one run.

    python benchmarks/bench_recommenders.py [--peer_python PYTHON] [--repeats 3] [--threads 2]

Cornac 3.0.1 runs in this environment (requirements-extras.txt), Cornac 2.2.2 in one of its own with NumPy
below 2, whose interpreter is ``PYTHON``. Without Cornac only our own times are shown. Both sides work on
the same synthetic data with equally many threads, one after the other: a Cornac epoch is measured over
its first batches, Cornac's evaluation over its first users, and both are scaled up. Ours is a process of
its own, so the peak memory is that of training, ranking and writing alone.
"""

import resource
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from sides import Measured, Step, Stopwatch, comparison_parser, measure, serve, show, started

ROOT = Path(__file__).parents[1]
N_USERS, N_ITEMS, N_FEATURES = 24_379, 7_371, 2_048
N_TRAIN = 64_641
FACTORS, BATCH, TOP_K = 64, 256, 150
PEER_BATCHES = {"vbpr": 40, "amr": 10}
PEER_USERS = 500


def synthetic_data() -> dict[str, np.ndarray]:
    """Draw interactions and clustered features: users prefer two clusters, items have popularity."""
    rng = np.random.default_rng(0)
    cluster = rng.integers(0, 40, N_ITEMS)
    centres = rng.gamma(0.5, size=(40, N_FEATURES))
    features = (centres[cluster] + rng.gamma(0.5, size=(N_ITEMS, N_FEATURES))).astype(np.float32)
    popularity = rng.zipf(1.6, N_ITEMS).clip(max=200).astype(float)
    items_of = [np.flatnonzero(cluster == c) for c in range(40)]
    weights_of = [popularity[items] / popularity[items].sum() for items in items_of]
    lengths = 2 + rng.multinomial(N_TRAIN - N_USERS, np.full(N_USERS, 1 / N_USERS))
    pairs = []
    for user, length in enumerate(lengths):
        liked, n = rng.choice(40, 2, replace=False), length
        items: list[int] = []
        while len(items) < n:
            c = liked[rng.integers(2)] if rng.random() < 0.9 else rng.integers(40)
            item = int(rng.choice(items_of[c], p=weights_of[c]))
            if item not in items:
                items.append(item)
        pairs.append(np.stack([np.full(n, user), items], 1))
    test = np.array([rows[-1] for rows in pairs])
    train = np.concatenate([rows[:-1] for rows in pairs])
    return {"train": train, "test": test, "features": features}


def ours(data_path: Path) -> None:
    sys.path.insert(0, str(ROOT))
    import tensorflow as tf

    from src.artifacts.tables import write_top_k
    from src.datasets.interactions import Interactions
    from src.metrics.ranking import auc, hit_ratio, ndcg
    from src.recommenders.bpr import PairwiseTrainer
    from src.recommenders.data import TrainingData
    from src.recommenders.hyperparameters import Adversary, Hyperparameters
    from src.recommenders.parameter_attack import ParameterAttack
    from src.recommenders.ranking import test_ranks, top_k
    from src.recommenders.scores import fold
    from src.recommenders.weights import initial_weights

    with np.load(data_path) as archive:
        train, test = (
            pairs[np.lexsort(pairs.T[::-1])] for pairs in (archive["train"], archive["test"])
        )
        data = TrainingData(Interactions(train, test, N_USERS, N_ITEMS), archive["features"])
    hyperparameters = Hyperparameters(
        factors=FACTORS, batch=BATCH, learning_rates=(0.05,) * 3, penalties=(0.01, 0.01, 0.0)
    )
    shapes = data.shapes(hyperparameters)
    features = tf.constant(data.scaled_features)
    epoch = iter(range(1, 1_000_000))

    def trainer(adversary: Adversary | None) -> PairwiseTrainer:
        made = PairwiseTrainer(shapes, hyperparameters, adversary)
        made.load(initial_weights(shapes, hyperparameters, data.scale, 0))
        return made

    amr = Adversary(0.1, ParameterAttack("fgsm", 1.0), "features")
    trainers = {"vbpr": trainer(None), "amr": trainer(amr)}

    def train_epoch(model: str) -> Measured:
        watch, number = Stopwatch(), next(epoch)
        trainers[model].epoch(features, data.sampler.epoch(0, number), np.int32(number))
        return watch.read()

    def bare_products(fetch: bool, adversarial: bool) -> Measured:
        """Time the matrix products of one epoch; ``fetch`` also reads the differences of features."""
        triples = tf.constant(data.sampler.epoch(0, 0))
        watch = Stopwatch()
        products(features, triples, fetch, adversarial).numpy()
        return watch.read()

    @tf.function
    def products(features, triples, fetch, adversarial):
        projection = tf.fill((N_FEATURES, FACTORS), 1e-3)
        for at in tf.range(0, N_TRAIN, BATCH):
            batch = triples[:, at : at + BATCH]
            contrast = features[: tf.shape(batch)[1]]
            if fetch:
                contrast = tf.gather(features, batch[1]) - tf.gather(features, batch[2])
            projected = tf.matmul(contrast, projection)
            gradient = tf.matmul(contrast, projected, transpose_a=True)
            if adversarial:
                gram = tf.matmul(projection, projection, transpose_a=True)
                gradient += tf.matmul(projection, gram)
            projection = gradient
        return projection

    def folded() -> tuple[np.ndarray, np.ndarray]:
        weights = trainers["vbpr"].save(data.scale, 1)
        return fold(hyperparameters.form, weights.tables, data.scaled_features)

    def lists() -> Measured:
        watch = Stopwatch()
        best = top_k(*folded(), data.interactions, TOP_K)
        ranking = watch.read()
        write_top_k(data_path.with_name("lists.tsv"), best)
        return {**watch.read(), "ranking": ranking["wall"], "ranking cpu": ranking["cpu"]}

    def evaluation() -> Measured:
        watch = Stopwatch()
        ranks = test_ranks(*folded(), data.interactions)
        measured = {
            "hr": hit_ratio(ranks.users, ranks.ranks, 20).mean(),
            "ndcg": ndcg(ranks.users, ranks.ranks, 20).mean(),
            "auc": auc(ranks.users, ranks.ranks, ranks.negatives).mean(),
        }
        return {**watch.read(), **measured}

    serve(
        {
            "vbpr": lambda: train_epoch("vbpr"),
            "amr": lambda: train_epoch("amr"),
            "vbpr products": lambda: bare_products(False, False),
            "vbpr products with rows": lambda: bare_products(True, False),
            "amr products": lambda: bare_products(False, True),
            "amr products with rows": lambda: bare_products(True, True),
            "lists": lists,
            "evaluation": evaluation,
            "memory": lambda: {"GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20},
        }
    )


def cornac_peer(data_path: Path) -> None:
    from cornac.data import Dataset, ImageModality
    from cornac.eval_methods.base_method import BaseMethod, ranking_eval
    from cornac.metrics import AUC, NDCG, HitRatio
    from cornac.models import AMR, VBPR

    with np.load(data_path) as archive:
        train, test, features = archive["train"], archive["test"], archive["features"]
    train_uir, test_uir = ([(u, i, 1.0) for u, i in pairs.tolist()] for pairs in (train, test))
    images = ImageModality(features=features / np.abs(features).max(), ids=list(range(N_ITEMS)))
    method = BaseMethod.from_splits(train_uir, test_uir, item_image=images, exclude_unknowns=True)
    train_set = method.train_set
    some_users = Dataset.build(
        test_uir[:PEER_USERS],
        global_uid_map=method.global_uid_map,
        global_iid_map=method.global_iid_map,
        exclude_unknowns=True,
    )
    options = {"n_epochs": 1, "batch_size": BATCH, "use_gpu": False, "verbose": False, "seed": 0}
    models = {
        "vbpr": VBPR(k=FACTORS, k2=FACTORS, **options),
        "amr": AMR(k=FACTORS, k2=FACTORS, **options),
    }
    whole_epoch = train_set.uij_iter

    def train_epoch(model: str) -> Measured:
        """Time the first batches, including sampling, without the set-up of ``fit``."""
        times: Measured = {}

        def first_batches(*arguments: object, **named: object) -> Iterator[object]:
            watch = Stopwatch()
            yield from islice(whole_epoch(*arguments, **named), PEER_BATCHES[model])
            times.update(watch.read(N_TRAIN / (PEER_BATCHES[model] * BATCH)))

        train_set.uij_iter = first_batches
        models[model].fit(train_set)
        return times

    def evaluation() -> Measured:
        watch = Stopwatch()
        metrics = [HitRatio(k=20), NDCG(k=20), AUC()]
        ranking_eval(models["vbpr"], metrics, train_set, some_users)
        return watch.read(N_USERS / PEER_USERS)

    serve(
        {
            "vbpr": lambda: train_epoch("vbpr"),
            "amr": lambda: train_epoch("amr"),
            "evaluation": evaluation,
        }
    )


def compare(peer_python: str | None, repeats: int, threads: int) -> None:
    pythons = {"ours": sys.executable} | ({"cornac": peer_python} if peer_python else {})
    references = [f"{m} products{rows}" for m in ("vbpr", "amr") for rows in ("", " with rows")]
    plan = [("ours", task) for task in (*references, "lists")]
    plan += [(side, task) for task in ("vbpr", "amr", "evaluation") for side in pythons]
    with started(__file__, pythons, synthetic_data(), threads) as workers:
        times = measure(workers, plan, repeats)
        gigabytes = workers["ours"].do("memory")["GiB"]
    report(times, gigabytes)


def report(times: dict[Step, Measured], gigabytes: float) -> None:
    for task, goal in {"vbpr": 8, "amr": 40, "evaluation": 15}.items():
        mine, peer = times["ours", task], times.get(("cornac", task))
        show(task, mine, "")
        if peer:
            faster, less = (peer[key] / mine[key] for key in ("wall", "cpu"))
            show("   Cornac", peer, f"{faster:.1f}x ours, CPU {less:.1f}x (at least {goal}x)")
    for model in ("vbpr", "amr"):
        for rows in ("", " with rows"):
            bare = times["ours", f"{model} products{rows}"]
            wall, cpu = (times["ours", model][key] / bare[key] for key in ("wall", "cpu"))
            show(
                f"{model} products{rows}", bare, f"an epoch takes {wall:.2f}x this, CPU {cpu:.2f}x"
            )
    lists = times["ours", "lists"]
    show("lists, TSV written", lists, "at most 3 s")
    show("   of it ranking", {"wall": lists["ranking"], "cpu": lists["ranking cpu"]}, "")
    print(f"our peak memory {gigabytes:.2f} GiB (at most 1.5)")


def main() -> None:
    options = comparison_parser(__doc__).parse_args()
    if options.worker:
        side, data_path = options.worker
        {"ours": ours, "cornac": cornac_peer}[side](Path(data_path))
    else:
        compare(options.peer_python, options.repeats, options.threads)


if __name__ == "__main__":
    main()
