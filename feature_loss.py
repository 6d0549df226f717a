"""Stage 5: feature loss (FL), the distance by which an attack moves the features of the images."""

import src.interrupts

import sys

import pandas as pd

from src.artifacts.classes import read_classes
from src.artifacts.errors import UserError
from src.artifacts.features import read_features
from src.artifacts.manifest import Manifest
from src.artifacts.stage import Stage
from src.artifacts.tables import write_table
from src.attacks.command import AttackCommand
from src.cli import run
from src.measures.comparable import require_same_extractors
from src.metrics.attack import feature_loss


def main() -> None:
    command = AttackCommand.parse(__doc__, attack="fgsm", eps=4.0)
    command.require_attacked()
    layout, experiment = command.layout, command.experiment
    clean_path = layout.features(experiment.clean)
    if not clean_path.is_file():
        raise UserError(f"missing file: {clean_path}; run first: {command.stage_1}")
    inputs = (layout.classes(experiment), layout.features(experiment), clean_path)
    average = layout.feature_loss_average(experiment)
    outputs = (
        layout.feature_loss_per_image(experiment),
        average,
        average.with_suffix(".tsv"),
    )
    require_same_extractors(layout, [experiment])
    stage = Stage(Manifest.of("feature_loss", {}, inputs), outputs, average)
    if stage.is_up_to_date(command.options.force):
        return

    image_ids = read_classes(inputs[0]).image_ids
    attacked = read_features(inputs[1])
    clean = read_features(clean_path, len(attacked))
    if clean.shape != attacked.shape:
        raise UserError(
            f"{clean_path} has {clean.shape[1]} features for each image, {inputs[1]} "
            f"{attacked.shape[1]}: they are of different extractors"
        )
    mse, rmse = feature_loss(clean[image_ids], attacked[image_ids])
    lines = (
        f"Total attacked images: {len(mse)}",
        f"Final MSE features loss: {mse.mean():.8f}",
        f"Final RMSE features loss: {rmse.mean():.8f}",
    )
    row = {
        "experiment": experiment.name,
        "attack": command.settings.kind,
        "attacked": len(mse),
        "mse": mse.mean(),
        "rmse": rmse.mean(),
    }
    with stage.publish() as (images_file, text_file, table_file):
        per_image = pd.DataFrame({"ImageID": image_ids, "MSE": mse, "RMSE": rmse})
        per_image.to_csv(images_file, index=False)
        text_file.write_text("\n".join(lines) + "\n")
        write_table(table_file, pd.DataFrame([row]), numbers=None)
    print(*lines, sep="\n")
    stage.say_written()


if __name__ == "__main__":
    sys.exit(run(main))
