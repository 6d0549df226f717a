"""Speed of BPR-MF, AMF and attacks on parameters beside a published notebook's implementation.

    python benchmarks/bench_apr.py [--data DIR] [--peer_python PYTHON] [--repeats 3] [--threads 2]

``DIR`` holds trainingset.tsv and testset.tsv; without it the data are synthetic and of the same size as
the first 500 users of MovieLens. The notebook works as published for APR: eager TensorFlow, one tape
for each batch, Python loops for negatives and for users. It is restated here (in one process, where the
original forks a pool for each draw of negatives). Its adversarial epoch makes a perturbation of all
rows from all training pairs for every batch; the first batches are timed and scaled up. He et al.'s own
kind of epoch, which that notebook lacks, is restated in the same manner. Cornac is optional, here or in
the environment of the interpreter ``PYTHON`` (the published times are of 2.2.2, which needs NumPy below
2).

Each side has ``--threads`` threads and starts from the model that it trained for five epochs. Nothing is
timed unless the accuracies of these models agree.
"""

import itertools
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sides import (
    Measured,
    Step,
    Stopwatch,
    Task,
    comparison_parser,
    measure,
    serve,
    show,
    started,
)

sys.path.insert(0, str(Path(__file__).parents[1]))

from src.cli import run

N_USERS, N_ITEMS, N_TRAIN = 500, 3_172, 73_371
FACTORS, BATCH, LEARNING_RATE, EPOCHS = 64, 512, 0.05, 5
EPSILON, WEIGHT = 0.5, 1.0
K = 100
PEER_BATCHES = 3
GOALS = {
    "BPR-MF epoch": 0.15,
    "AMF epoch": 0.2,
    "AMF-full epoch": None,
    "attack, sampled negatives": 0.05,
    "attack, expected negatives": None,
    "attack, BIM-25": None,
    "evaluation": 0.05,
}
"""Tasks of our side, with the largest acceptable time in seconds."""
TASKS = {
    "ours": tuple(GOALS),
    "notebook": (
        "BPR-MF epoch",
        "AMF epoch",
        "AMF-full epoch",
        "attack, sampled negatives",
        "evaluation",
    ),
    "cornac": ("BPR-MF epoch", "evaluation"),
}
"""Tasks that are timed on each side."""
TOLERANCES = {"loss": 0.03, "AUC": 0.015}
"""Largest differences between our trained model and the notebook's, several times those of two seeds."""


def synthetic_data() -> dict[str, np.ndarray]:
    """Draw items for users of unequal activity by popularity and by individual taste."""
    rng = np.random.default_rng(0)
    activity = rng.lognormal(size=N_USERS)
    lengths = 19 + rng.multinomial(N_TRAIN - 19 * N_USERS, activity / activity.sum())
    popularity = -np.log(40 + rng.permutation(N_ITEMS))
    taste = rng.standard_normal((N_USERS, 8)) @ rng.standard_normal((8, N_ITEMS)) / 4
    # The largest log weights after Gumbel noise are a weighted draw without replacement.
    order = np.argsort(-(popularity + taste + rng.gumbel(size=taste.shape)), axis=1)
    train = np.column_stack(
        [
            np.repeat(np.arange(N_USERS), lengths),
            np.concatenate([row[:length] for row, length in zip(order, lengths, strict=True)]),
        ]
    )
    test = np.column_stack([np.arange(N_USERS), order[np.arange(N_USERS), lengths]])
    return {"train": train, "test": test, "shape": np.array([N_USERS, N_ITEMS])}


def read_data(folder: Path) -> dict[str, np.ndarray]:
    from src.artifacts.tables import read_pairs

    train, test = (read_pairs(folder / name) for name in ("trainingset.tsv", "testset.tsv"))
    return {"train": train, "test": test, "shape": 1 + np.concatenate([train, test]).max(0)}


def timed(work: Callable[[], object], scale: float = 1.0) -> Task:
    """Return a task that measures the time of ``work``, multiplied by ``scale``."""

    def task() -> Measured:
        watch = Stopwatch()
        work()
        return watch.read(scale)

    return task


def ours(data_path: Path) -> None:
    from src.datasets.interactions import Interactions
    from src.metrics.ranking import auc, hit_ratio, ndcg
    from src.recommenders.bpr import features_on, trainer_for
    from src.recommenders.data import TrainingData
    from src.recommenders.hyperparameters import Adversary, Hyperparameters
    from src.recommenders.pairwise_loss import ExpectedNegatives, PairwiseLoss, SampledNegatives
    from src.recommenders.parameter_attack import Attacked, ParameterAttack, parameters_of
    from src.recommenders.ranking import test_ranks
    from src.recommenders.scores import fold
    from src.recommenders.weights import initial_weights

    with np.load(data_path) as archive:
        train, test = (
            pairs[np.lexsort(pairs.T[::-1])] for pairs in (archive["train"], archive["test"])
        )
        data = TrainingData(Interactions(train, test, *archive["shape"].tolist()))
    hyperparameters = Hyperparameters(
        form="mf",
        factors=FACTORS,
        batch=BATCH,
        learning_rates=(LEARNING_RATE,) * 3,
        penalties=(0.0,) * 3,
    )
    shapes = data.shapes(hyperparameters)
    features = features_on("/CPU:0", None, data.interactions.n_items)
    fgsm = ParameterAttack("fgsm", EPSILON)
    adversaries = {
        "BPR-MF": None,
        "AMF": Adversary(WEIGHT, fgsm, "tables"),
        "AMF-full": Adversary(WEIGHT, fgsm, "tables", scope="full", stale_clean_term=True),
    }
    trainers = {
        model: trainer_for(shapes, hyperparameters, adversary, "/CPU:0")
        for model, adversary in adversaries.items()
    }
    number = itertools.count(1)

    def epoch(model: str) -> float:
        at = next(number)
        return trainers[model].epoch(features, data.sampler.epoch(0, at), np.int32(at))

    def epoch_of_whole_set_attacks() -> None:
        def perturb(tables: dict[str, np.ndarray], _: int) -> tuple[np.ndarray, np.ndarray]:
            shifts = attacked(tables, fgsm, sampled()).shifts
            return shifts["P"], shifts["Q"]

        trainers["AMF-full"].epoch_under(features, data.sampler.epoch(0, next(number)), perturb)

    def sampled() -> PairwiseLoss:
        return SampledNegatives(data.sampler, next(number))

    def expected() -> PairwiseLoss:
        return ExpectedNegatives(data.interactions, data.sampler.candidate_items)

    def attacked(
        tables: dict[str, np.ndarray], attack: ParameterAttack, loss: PairwiseLoss
    ) -> Attacked:
        folded, parameters = fold("mf", tables, None), parameters_of("mf", tables)
        return attack(*folded, parameters, loss, np.random.default_rng(0))

    def accuracy(users: np.ndarray, items: np.ndarray) -> Measured:
        ranks = test_ranks(users, items, data.interactions)
        return {
            "HR": hit_ratio(ranks.users, ranks.ranks, K).mean(),
            "nDCG": ndcg(ranks.users, ranks.ranks, K).mean(),
            "AUC": auc(ranks.users, ranks.ranks, ranks.negatives).mean(),
        }

    trainers["BPR-MF"].load(initial_weights(shapes, hyperparameters, data.scale, 0))
    losses = [epoch("BPR-MF") / len(train) for _ in range(EPOCHS)]
    trained = trainers["BPR-MF"].save(data.scale, EPOCHS)
    trainers["AMF"].load(trained)
    trainers["AMF-full"].load(trained)
    tables = trained.tables
    under_attack = attacked(tables, fgsm, sampled())
    bim = ParameterAttack("bim", EPSILON, 25, projection="box")

    serve(
        {
            "clean": lambda: {"loss": losses[-1], **accuracy(*fold("mf", tables, None))},
            "attacked": lambda: accuracy(under_attack.users, under_attack.items),
            "BPR-MF epoch": timed(lambda: epoch("BPR-MF")),
            "AMF epoch": timed(lambda: epoch("AMF")),
            "AMF-full epoch": timed(epoch_of_whole_set_attacks),
            "attack, sampled negatives": timed(lambda: attacked(tables, fgsm, sampled())),
            "attack, expected negatives": timed(lambda: attacked(tables, fgsm, expected())),
            "attack, BIM-25": timed(lambda: attacked(tables, bim, sampled())),
            "evaluation": timed(lambda: accuracy(*fold("mf", tables, None))),
        }
    )


class Notebook:
    """BPR-MF, its attack and its adversarial training in the notebook's way, with TensorFlow ``tf``.

    Perturbations of all rows are part of the model, and every forward pass adds them to the tables.
    """

    def __init__(self, tf: Any, train: np.ndarray, test: np.ndarray, shape: tuple[int, int]):
        self.tf, self.rng = tf, np.random.default_rng(0)
        self.pairs, self.test = train.tolist(), test.tolist()
        self.n_items = shape[1]
        self.own_items: list[list[int]] = [[] for _ in range(shape[0])]
        for user, item in self.pairs:
            self.own_items[user].append(item)
        everything = set(range(self.n_items))
        self.candidates = [
            np.array([*everything.difference(self.own_items[user], [item]), item])
            for user, item in self.test
        ]
        self.tables = [
            tf.Variable(tf.random.truncated_normal((rows, FACTORS), stddev=0.01)) for rows in shape
        ]
        self.shifts = [tf.Variable(tf.zeros((rows, FACTORS))) for rows in shape]
        self.optimizer = tf.keras.optimizers.Adagrad(LEARNING_RATE)

    def draw(self) -> np.ndarray:
        """Draw all training pairs in random order, each with a random negative: (3, n)."""
        triples = []
        for at in self.rng.permutation(len(self.pairs)):
            user, positive = self.pairs[at]
            negative = int(self.rng.integers(self.n_items))
            while negative in self.own_items[user]:
                negative = int(self.rng.integers(self.n_items))
            triples.append((user, positive, negative))
        return np.array(triples).T

    def batches(self) -> list[np.ndarray]:
        """Return the complete batches of an epoch."""
        triples = self.draw()
        n_batches = triples.shape[1] // BATCH
        return np.split(triples[:, : n_batches * BATCH], n_batches, axis=1)

    def scores(self, users: Any, items: Any) -> Any:
        (p, q), (shift_p, shift_q) = self.tables, self.shifts
        user_rows = self.tf.nn.embedding_lookup(p + shift_p, users)
        item_rows = self.tf.nn.embedding_lookup(q + shift_q, items)
        return self.tf.reduce_sum(user_rows * item_rows, 1)

    def loss(self, triples: np.ndarray) -> Any:
        users, positives, negatives = triples
        margin = self.scores(users, positives) - self.scores(users, negatives)
        return self.tf.reduce_sum(self.tf.nn.softplus(-self.tf.clip_by_value(margin, -80.0, 1e8)))

    def reset(self) -> None:
        for shift in self.shifts:
            shift.assign(self.tf.zeros_like(shift))

    def attack(self, triples: np.ndarray) -> None:
        """Shift each row by epsilon along its gradient of the clean loss of ``triples``."""
        self.reset()
        with self.tf.GradientTape() as tape:
            loss = self.loss(triples)
        for shift, gradient in zip(self.shifts, tape.gradient(loss, self.tables), strict=True):
            dense = self.tf.convert_to_tensor(gradient)
            shift.assign(EPSILON * self.tf.math.l2_normalize(dense, axis=1))

    def epoch(self) -> float:
        return sum(self.step(self.loss, batch) for batch in self.batches())

    def adversarial_epoch(self) -> None:
        """Train an epoch in He et al.'s way, with a perturbation from each batch itself."""
        for batch in self.batches():
            self.reset()
            self.step(lambda batch: self.adversarial_loss(batch, batch), batch)
        self.reset()

    def adversarial_batches(self, batches: list[np.ndarray]) -> None:
        """Train in the notebook's way, with perturbations from all training pairs.

        The clean term of a batch is under the perturbation of the previous batch, as published.
        """
        for batch in batches:
            self.step(lambda batch: self.adversarial_loss(batch, self.draw()), batch)
        self.reset()

    def adversarial_loss(self, batch: np.ndarray, attacked: np.ndarray) -> Any:
        """Return the present loss plus the loss after an attack on the triples ``attacked``."""
        loss = self.loss(batch)
        self.attack(attacked)
        return loss + WEIGHT * self.loss(batch)

    def step(self, loss_of: Callable[[np.ndarray], Any], batch: np.ndarray) -> float:
        with self.tf.GradientTape() as tape:
            loss = loss_of(batch)
        gradients = tape.gradient(loss, self.tables)
        self.optimizer.apply_gradients(zip(gradients, self.tables, strict=True))
        return float(loss)

    def accuracy(self) -> Measured:
        """Return the accuracy, computed user by user and K by K."""
        hits, gains, areas = [], [], []
        for (user, _), candidates in zip(self.test, self.candidates, strict=True):
            scores = self.scores(np.full(len(candidates), user), candidates).numpy()
            rank = int((scores[:-1] >= scores[-1]).sum())
            hits.append([float(rank < k) for k in range(1, K + 1)])
            gains.append([np.log(2) / np.log(rank + 2) * (rank < k) for k in range(1, K + 1)])
            areas.append(1 - rank / (len(candidates) - 1))
        at_k = (float(np.mean(values, axis=0)[-1]) for values in (hits, gains))
        return {**dict(zip(("HR", "nDCG"), at_k, strict=True)), "AUC": float(np.mean(areas))}


def notebook(data_path: Path) -> None:
    from src.recommenders.quiet_tensorflow import tf

    tf.random.set_seed(0)
    with np.load(data_path) as archive:
        model = Notebook(tf, archive["train"], archive["test"], archive["shape"].tolist())
    n_batches = len(model.pairs) // BATCH
    losses = [model.epoch() / (n_batches * BATCH) for _ in range(EPOCHS)]
    clean = {"loss": losses[-1], **model.accuracy()}
    model.attack(model.draw())
    attacked = model.accuracy()
    model.reset()

    def part_of_epoch() -> Measured:
        batches = model.batches()[:PEER_BATCHES]
        return timed(lambda: model.adversarial_batches(batches), n_batches / PEER_BATCHES)()

    serve(
        {
            "clean": lambda: clean,
            "attacked": lambda: attacked,
            "BPR-MF epoch": timed(model.epoch),
            "AMF epoch": timed(model.adversarial_epoch),
            "AMF-full epoch": part_of_epoch,
            "attack, sampled negatives": timed(lambda: model.attack(model.draw())),
            "evaluation": timed(model.accuracy),
        }
    )


def cornac_peer(data_path: Path) -> None:
    """Serve Cornac's BPR: compiled SGD over single triples, without biases and without penalty."""
    from cornac.eval_methods.base_method import BaseMethod, ranking_eval
    from cornac.metrics import AUC, NDCG, HitRatio
    from cornac.models import BPR

    with np.load(data_path) as archive:
        train, test = (
            [(u, i, 1.0) for u, i in archive[name].tolist()] for name in ("train", "test")
        )
    method = BaseMethod.from_splits(train, test, exclude_unknowns=True)

    class TimedBPR(BPR):
        """BPR that measures the time of its epochs without the set-up of ``fit``."""

        def _fit_sgd(self, *arguments: object) -> object:
            watch = Stopwatch()
            counts = super()._fit_sgd(*arguments)
            self.times = watch.read()
            return counts

    options = {"k": FACTORS, "learning_rate": LEARNING_RATE, "lambda_reg": 0.0, "use_bias": False}

    def fitted(epochs: int) -> BPR:
        # With a seed Cornac would use a single thread.
        model = TimedBPR(max_iter=epochs, num_threads=2, **options)
        return model.fit(method.train_set)

    trained = fitted(EPOCHS)

    def accuracy() -> Measured:
        metrics = [HitRatio(k=K), NDCG(k=K), AUC()]
        means, _ = ranking_eval(trained, metrics, method.train_set, method.test_set)
        return dict(zip(("HR", "nDCG", "AUC"), map(float, means), strict=True))

    serve(
        {
            "clean": accuracy,
            "BPR-MF epoch": lambda: fitted(1).times,
            "evaluation": timed(accuracy),
        }
    )


def compare(
    data: dict[str, np.ndarray], peer_python: str | None, repeats: int, threads: int
) -> None:
    pythons = {"ours": sys.executable, "notebook": sys.executable}
    pythons |= {"cornac": peer_python} if peer_python else {}
    plan = [(side, task) for task in GOALS for side in pythons if task in TASKS[side]]
    with started(__file__, pythons, data, threads) as workers:
        check(
            {side: worker.do("clean") for side, worker in workers.items()},
            {side: workers[side].do("attacked") for side in ("ours", "notebook")},
        )
        report(measure(workers, plan, repeats))


def check(clean: dict[str, Measured], attacked: dict[str, Measured]) -> None:
    """Print the accuracy of the trained models; exit if ours and the notebook's differ."""

    def line(name: str, values: Measured) -> None:
        print(f"{name:32s}", *(f"{key} {value:.4f}" for key, value in values.items()))

    for side, values in clean.items():
        line(f"{side}, {EPOCHS} epochs", values)
    for side, values in attacked.items():
        line(f"{side}, attacked", values)
    for by_side in (clean, attacked):
        mine, theirs = by_side["ours"], by_side["notebook"]
        for key in TOLERANCES.keys() & mine.keys():
            if abs(mine[key] - theirs[key]) > TOLERANCES[key]:
                raise SystemExit(f"our {key} and the notebook's differ: they are not comparable")


def report(times: dict[Step, Measured]) -> None:
    for (side, task), time in times.items():
        if side == "ours":
            goal = GOALS[task]
            show(task, time, f"at most {goal} s" if goal else "")
            continue
        wall, cpu = (time[key] / times["ours", task][key] for key in ("wall", "cpu"))
        remark = f"{wall:.1f}x ours, CPU {cpu:.1f}x"
        if wall < 1:
            remark = f"faster: we take {1 / wall:.1f}x its time, CPU {1 / cpu:.1f}x"
        show(f"   {side}", time, remark)
    if ("cornac", "BPR-MF epoch") in times:
        print("Cornac's epoch is compiled SGD over single triples: no batches, no Adagrad.")


def main() -> None:
    parser = comparison_parser(__doc__)
    parser.add_argument("--data", type=Path, help="folder with trainingset.tsv and testset.tsv")
    options = parser.parse_args()
    if options.worker:
        side, data_path = options.worker
        {"ours": ours, "notebook": notebook, "cornac": cornac_peer}[side](Path(data_path))
    else:
        data = read_data(options.data) if options.data else synthetic_data()
        compare(data, options.peer_python, options.repeats, options.threads)


if __name__ == "__main__":
    sys.exit(run(main))
