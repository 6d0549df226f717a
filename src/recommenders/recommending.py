"""Top-K lists and ranks of held-out items of recommenders, under both protocols."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from src.artifacts.atomic import atomic_output
from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run
from src.artifacts.layout import Layout, ListsForm
from src.artifacts.locks import sole_maker
from src.artifacts.manifest import Manifest, record_path
from src.artifacts.parts import Parts
from src.artifacts.stage import Stage
from src.artifacts.tables import (
    TestRanks,
    TopK,
    write_test_ranks,
    write_top_k,
    write_top_k_arrays,
)
from src.extractors.distribution import (
    own_share,
    rank,
    wait_for_all,
    wait_for_turn,
)
from src.recommenders.command import training_command
from src.recommenders.data import TrainingData
from src.recommenders.fitting import (
    Fitting,
    Progress,
    Training,
    best_on_validation,
    files_read,
    fit,
)
from src.recommenders.ranking import ranker, user_parts
from src.recommenders.recommender import Recommender

STAGE = "recommend"
DEPLOY = "deploy recommender"


@dataclass(frozen=True)
class Ranking:
    """How lists and ranks are made."""

    gpu: int = -1
    """CUDA device; -1 is the CPU."""
    lists: ListsForm | None = "tsv"
    """Form of the file of lists; None writes no lists."""


def recommend_retrained(
    training: Training | Fitting,
    data: TrainingData,
    ranking: Ranking,
    progress: Progress,
    force: bool,
    keep: Literal["last", "best"] = "last",
) -> Run:
    """Learn from the experiment's own data and write its lists and ranks; see ``fit``.

    ``keep`` chooses the last weights, or the checkpoint that is best on validation rows. Returns the run
    of these lists; its name shows the checkpoints among which it was chosen. Under ``torchrun`` process
    0 learns, and all processes rank.
    """
    layout, run = training.layout, training.run
    options = training.list_options
    in_epochs = isinstance(training, Training)
    if in_epochs and keep == "best":
        run = replace(run, options=f"{run.options}_best{progress.every}")
        options |= {"keep": keep, "every": progress.every}
    training.require_start()
    manifest = Manifest.of(STAGE, options, (*training.inputs, *layout.held_out_sets))
    stage = _stage(layout, run, manifest, ranking)
    if stage.is_up_to_date(force):
        return run

    def learn(force: bool) -> Recommender:
        if not in_epochs:
            return training.fitted(data, force)
        recommender = fit(training, data, ranking.gpu, progress, force)
        if keep == "best":
            return best_on_validation(training, data, ranking.gpu, progress)
        return recommender

    _write(stage, layout, run, _learnt_once(learn, force), data, ranking)
    return run


def recommend_at_test_time(
    run: Run,
    training: Training | Fitting,
    data: TrainingData,
    clean_data: Callable[[], TrainingData],
    ranking: Ranking,
    force: bool,
) -> None:
    """Score the features of ``run`` with the recommender of ``training``, which learnt from clean ones.

    Nothing is trained in epochs. A recommender that is fitted at once is fitted to ``clean_data`` if it
    is not stored. Raises ``UserError`` if weights are missing, belong to another extractor, or were
    trained with other options or on other data.
    """
    layout, trained = training.layout, training.run
    if trained.experiment.extractor != run.experiment.extractor:
        raise UserError(
            f"{run.experiment.name} and {trained.experiment.name} are features of different extractors"
        )
    if isinstance(training, Training):
        learnt = (training.require_weights(training_command(layout, trained)),)
    else:
        learnt = training.inputs
    inputs = (*learnt, *files_read(layout, run), layout.training_set, *layout.held_out_sets)
    manifest = Manifest.of(STAGE, training.list_options, inputs)
    stage = _stage(layout, run, manifest, ranking)
    if stage.is_up_to_date(force):
        return
    if isinstance(training, Training):
        recommender = training.read(trained.epochs, data)
    else:
        recommender = _learnt_once(lambda _: training.fitted(clean_data()), force)
    _write(stage, layout, run, recommender, data, ranking)


def recommend_deployed(
    training: Training,
    experiment: Experiment,
    data: TrainingData,
    ranking: Ranking,
    force: bool,
) -> Run:
    """Rank features of another extractor by the recommender of ``training``, unchanged.

    Where they are clean, its weights are stored as those of this extractor too, so that attacks and
    measures find them; lists of attacked ones are those of test time. Names of its runs show the
    extractor from which it learnt. Returns the run of these lists. Raises ``UserError`` for features of
    the extractor from which it learnt.
    """
    layout, learnt = training.layout, training.run.experiment
    if experiment.extractor == learnt.extractor:
        raise UserError(
            f"--deployed {learnt.name} is for features of another extractor, not {experiment.name}"
        )
    source = training.require_weights(training_command(layout, training.run))
    run = training.run.deployed_on(experiment)
    if experiment.attack:
        run = replace(run, protocol="test_time")
    recommender = training.read(run.epochs, data)
    inputs = (source, layout.features(experiment), layout.training_set, *layout.held_out_sets)
    weights, manifest = layout.weights(run), Manifest.of(DEPLOY, training.list_options, inputs)
    if rank() == 0 and not experiment.attack:
        with sole_maker(weights):
            if force or not manifest.is_current([weights]):
                with atomic_output(weights) as temporary:
                    recommender.save(temporary)
                manifest.write([weights])
    stage = _stage(layout, run, manifest, ranking)
    if not stage.is_up_to_date(force):
        _write(stage, layout, run, recommender, data, ranking)
    return run


def _stage(layout: Layout, run: Run, manifest: Manifest, ranking: Ranking) -> Stage:
    """Return the stage that writes the ranks of ``run`` and, if asked for, its lists before them."""
    lists = [] if ranking.lists is None else [layout.recommendations(run, ranking.lists)]
    stage = Stage(manifest, (*lists, layout.test_ranks(run)), run.name)
    wait_for_turn(stage)
    return stage


def _learnt_once(learn: Callable[[bool], Recommender], force: bool) -> Recommender:
    """Return ``learn(force)`` of process 0; the others then read what it has stored."""
    first = learn(force) if rank() == 0 else None
    wait_for_all()
    return learn(False) if first is None else first


def _write(
    stage: Stage,
    layout: Layout,
    run: Run,
    recommender: Recommender,
    data: TrainingData,
    ranking: Ranking,
) -> None:
    """Rank a share of the users in each process; process 0 joins the shares and publishes."""
    users, items = recommender.factors(data.features)
    if not (np.isfinite(users).all() and np.isfinite(items).all()):
        raise UserError(f"{run.name}: the weights are no longer finite: lower the learning rates")
    interactions = data.at_test_time
    plan = user_parts(len(users), len(items))
    rank_users = ranker(ranking.gpu)
    k = run.top_k if ranking.lists else 0
    for number in own_share(stage.parts.unfinished(len(plan))):
        block = plan[number]
        best, ranks = rank_users(users[block], items, interactions.block(block), k)
        stage.parts.save(
            number,
            {
                "items": best.items.astype(np.int32),
                "scores": best.scores,
                "ranks": np.stack([ranks.users + block.start, *_columns(ranks)[1:]]),
            },
        )
    wait_for_all()
    if rank() == 0:
        best, ranks = _joined(stage.parts, plan)
        with stage.publish() as (*lists, ranks_file):
            for file in lists:
                (write_top_k_arrays if ranking.lists == "npz" else write_top_k)(file, best)
            write_test_ranks(ranks_file, ranks)
        _remove_older(layout, run, ranking)
    wait_for_all()


def _columns(ranks: TestRanks) -> tuple[np.ndarray, ...]:
    return ranks.users, ranks.items, ranks.ranks, ranks.negatives


def _joined(parts: Parts, plan: list[slice]) -> tuple[TopK, TestRanks]:
    """Return the lists and ranks of all parts; holds one part beside them."""
    best, ranks = None, []
    for number, block in enumerate(plan):
        part = parts.read(number)
        if best is None:
            shape = (plan[-1].stop, part["items"].shape[1])
            best = TopK(np.empty(shape, np.int64), np.empty(shape, np.float32))
        best.items[block], best.scores[block] = part["items"], part["scores"]
        ranks.append(part["ranks"])
    return best, TestRanks(*np.concatenate(ranks, axis=1))


def _remove_older(layout: Layout, run: Run, ranking: Ranking) -> None:
    """Remove lists of ``run`` in other forms, which may be of an earlier training."""
    for form in get_args(ListsForm):
        if form != ranking.lists:
            file = layout.recommendations(run, form)
            file.unlink(missing_ok=True)
            record_path(file).unlink(missing_ok=True)
