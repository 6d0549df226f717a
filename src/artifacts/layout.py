"""Tree of folders that the stages share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from src.artifacts.errors import UserError
from src.artifacts.experiments import Experiment, Run, check_name

ListsForm = Literal["tsv", "npz"]
"""Forms of a file of lists: text as published, or arrays, which are smaller and faster."""


@dataclass(frozen=True)
class Layout:
    """Paths of one data set below ``root``, the folder that holds ``data/``."""

    dataset: str
    root: Path = Path()

    def __post_init__(self) -> None:
        check_name(self.dataset, "dataset")

    @property
    def data(self) -> Path:
        return self.root / "data" / self.dataset

    def require_data(self) -> Path:
        """Return the data set's folder; ``UserError`` if it does not exist."""
        if not self.data.is_dir():
            raise UserError(
                f"no data set at {self.data}: run download_datasets.sh or prepare_dataset.py first"
            )
        return self.data

    def attacked_experiments(self) -> list[Experiment]:
        """Return the attacked experiments that have a folder, by extractor and name."""
        found = []
        for folder in self.data.glob("*/"):
            try:
                experiment = Experiment.parse(folder.name)
            except UserError:
                continue  # a folder of the user's own
            if experiment.attack:
                found.append(experiment)
        return sorted(found, key=lambda of: (of.model_dir or "", of.name))

    # Interactions and catalogue, written by prepare_dataset.py or download_datasets.sh.
    @property
    def training_set(self) -> Path:
        return self.data / "trainingset.tsv"

    @property
    def test_set(self) -> Path:
        return self.data / "testset.tsv"

    @property
    def validation_set(self) -> Path:
        """Second held-out item of each user, by which epochs are chosen; most data sets have none."""
        return self.data / "validationset.tsv"

    @property
    def held_out_sets(self) -> tuple[Path, ...]:
        """Test rows and, if the data set has them, validation rows."""
        return tuple(path for path in (self.test_set, self.validation_set) if path.is_file())

    @property
    def images(self) -> Path:
        """Clean product images ``<item id>.jpg``."""
        return self.data / "original" / "images"

    @property
    def user_map(self) -> Path:
        """User of the source for each user id: columns id, original."""
        return self.data / "user_ids.tsv"

    @property
    def item_map(self) -> Path:
        """Item of the source for each item id: columns id, original."""
        return self.data / "item_ids.tsv"

    @property
    def dropped_items(self) -> Path:
        """Items of the source that have no readable image: columns item, reason."""
        return self.data / "dropped.tsv"

    @property
    def cold_items(self) -> Path:
        """Items that were held out of training altogether, one id a line; most data sets have none."""
        return self.data / "cold_items.tsv"

    @property
    def images_report(self) -> Path:
        """Outcome of every image download: columns item, url, status."""
        return self.data / "images_report.tsv"

    @property
    def item_categories(self) -> Path:
        """Categories of the items, if they are known: columns item, category (a number), label."""
        return self.data / "items.csv"

    @property
    def extractor_set(self) -> Path:
        """Labelled pictures that train an extractor: ``images/`` and ``labels.csv``."""
        return self.data / "extractor"

    # Stages 1 and 3: predictions of an extractor for the images of an experiment.
    def experiment(self, experiment: Experiment) -> Path:
        return self.data / experiment.name

    def classes(self, experiment: Experiment) -> Path:
        return self.experiment(experiment) / "classes.csv"

    def features(self, experiment: Experiment) -> Path:
        return self.experiment(experiment) / "features.npy"

    def image_notes(self, experiment: Experiment) -> Path:
        """Images that were truncated or not RGB: columns item, note."""
        return self.experiment(experiment) / "image_notes.tsv"

    def attacked_images(self, experiment: Experiment) -> Path:
        return self.experiment(experiment) / "images"

    def attack_report(self, experiment: Experiment) -> Path:
        """Per-image outcome of an attack: success before and after rounding, size of the change."""
        return self.experiment(experiment) / "attack.tsv"

    # Stages 2 and 4: recommenders.
    def weights(self, run: Run) -> Path:
        """Return the weight file of ``run`` after all its epochs."""
        return self.root / "rec_model_weights" / self.dataset / f"{run.weights_name}.npz"

    @property
    def recommendations_dir(self) -> Path:
        return self.root / "rec_results" / self.dataset

    def recommendations(self, run: Run, form: ListsForm | None = None) -> Path:
        """Return the file of lists in that form, by default in the form that is there, or else TSV."""
        tsv, npz = (self.recommendations_dir / f"{run.name}.{end}" for end in ("tsv", "npz"))
        if form is None:
            return npz if npz.is_file() and not tsv.is_file() else tsv
        return npz if form == "npz" else tsv

    def test_ranks(self, run: Run) -> Path:
        """Return the file of ranks of held-out items among all items outside the user's training set."""
        return self.recommendations_dir / "test_ranks" / f"{run.name}.tsv"

    def attacked_recommendations(self, attack: str, run: Run) -> Path:
        """Return the lists of a recommender whose parameters are attacked by the attack of that name."""
        return self.recommendations_dir / "attacked" / f"{attack}_{run.name}.tsv"

    # Stages 2b and 5: measures.
    def metric(self, metric: str, run: Run) -> Path:
        """Return the table in the folder ``metric``: ``chr``, ``ncdcg``, ``accuracy`` or ``bias``."""
        return self.root / metric / self.dataset / f"{run.name}.tsv"

    def success_results(self, experiment: Experiment) -> Path:
        return self.experiment(experiment) / "success_results.txt"

    def feature_loss_per_image(self, experiment: Experiment) -> Path:
        return self.experiment(experiment) / "features_dist_all_attack.csv"

    def feature_loss_average(self, experiment: Experiment) -> Path:
        return self.experiment(experiment) / "features_dist_avg_all_attack.txt"

    def attention(self, experiment: Experiment, ending: str = ".tsv") -> Path:
        """Return the table of attention, a row per image; the summary and figures have other endings."""
        return self.experiment(experiment) / f"attention{ending}"

    @property
    def results(self) -> Path:
        return self.root / "results" / self.dataset

    @property
    def summary(self) -> Path:
        return self.results / "summary.tsv"

    @property
    def runs_table(self) -> Path:
        """Values of every run behind ``summary``."""
        return self.results / "runs.tsv"

    def result(self, name: str) -> Path:
        """Return the path of a file of a study."""
        return self.results / check_name(name, "output")

    # Checkpoints are shared by all data sets.
    def model_file(self, model_dir: str, model_file: str) -> Path:
        return self.root / "models" / check_name(model_dir, "model_dir") / model_file
