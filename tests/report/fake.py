"""Studies with made-up predictions: what a report reads, without any training."""

import json
import zlib
from pathlib import Path

import numpy as np
import pandas as pd

from mtpkdot.pipeline.study import Cell, Study

CLASSES = ["calm", "pain"]
SKILL = {"backbone.video": 0.60, "backbone.audio": 0.85, "teacher": 0.90, "adapted.video": 0.62, "adapted.audio": 0.86}


def study(folder: Path, variants=("none", "pkdot", "mtpkdot"), folds=3, seeds=2, **more) -> Study:
    methods = {name: {"student.model.method": name.split("+")[0]} for name in variants}
    settings = more.pop("settings", {"all": {}})
    made = more.pop("variants_of", methods)
    return Study(
        folder.name,
        ("--config=c.yaml",),
        settings,
        made,
        tuple({"data.split.fold": fold} for fold in range(folds)),
        tuple(range(seeds)),
        str(folder.parent),
        **more,
    )


def predictions(stage, fold, seed, skill, people=4, each=6, task="classification", targets=CLASSES, key=""):
    """Validation and test rows of one model; truths are the same for every model and seed."""
    tables = []
    for split in ("validation", "test"):
        truths = np.random.default_rng([fold, split == "test"])
        answers = np.random.default_rng([fold, seed, split == "test", zlib.crc32(f"{stage}{key}".encode())])
        n = people * each
        first = 100 * fold + (50 if split == "validation" else 0)
        frame = pd.DataFrame(
            {
                "id": [f"r{first + i // each}_{i % each}" for i in range(n)],
                "subject": [f"p{first + i // each:03d}" for i in range(n)],
                "split": split,
                "stage": stage,
            }
        )
        if task == "regression":
            for name in targets:
                truth = truths.normal(size=n)
                value = skill * truth + (1 - skill) * answers.normal(size=n)
                tables.append(frame.assign(target=name, truth=truth, prediction=value))
            continue
        truth = truths.integers(0, len(targets), n)
        right = answers.random(n) < skill
        answer = np.where(right, truth, (truth + 1) % len(targets))
        sure = answers.uniform(0.5, 1.0, n)
        names = np.array(targets, dtype=object)
        rest = {
            f"p_{name}": np.where(answer == i, sure, (1 - sure) / (len(targets) - 1)) for i, name in enumerate(targets)
        }
        tables.append(frame.assign(target="t", truth=names[truth], prediction=names[answer], **rest))
    return pd.concat(tables, ignore_index=True)


def record(cell: Cell, stages: dict[str, str], task, targets, labelled):
    return {
        "protocol": "clean",
        "versions": {"mtpkdot": "0.1.0"},
        "task": task,
        "targets": targets,
        "prevalent": "video",
        "samples": {"train": 48, "validation": 24, "test": 24},
        "labelled": {"train": 24, "validation": 24, "test": 24},
        "stages": {
            stage: {"hash": value, "keys": {"data.init_args.labelled_subjects": labelled} | _method(stage, cell)}
            for stage, value in stages.items()
        },
    }


def _method(stage, cell):
    method = next((a.split("=")[1] for a in cell.arguments if a.startswith("--student.model.method=")), "mtpkdot")
    held_out = next((a.split("=")[1] for a in cell.arguments if a.startswith("--data.validation_labels=")), "select")
    keys = {"student.model.method": method, "data.init_args.validation_labels": held_out}
    return keys if stage == "student" else {}


def write(made: Study, skill=None, task="classification", targets=CLASSES, skip=(), **sizes) -> Path:
    """Write the study's cells; `skill` is a number per student, `skip` a set of places."""
    made.write()
    for cell in made.cells():
        if cell.place in skip:
            continue
        folder = made.folder / cell.place
        folder.mkdir(parents=True)
        labelled = made.settings[cell.setting].get("data.labelled_subjects", "all")
        key = f"{cell.setting}-{cell.upstream if cell.first else cell.variant}"
        place = f"{cell.setting}-{cell.fold}-{cell.seed}"
        own = sorted(a for a in cell.arguments if a.startswith(("--backbone.", "--data.validation_labels")))
        stages = {name: f"{name}-{place}-{own}" for name in ("backbone.video", "backbone.audio")}
        made_up = sorted(a for a in cell.arguments if a.startswith(("--backbone.", "--hallucinator.")))
        stages["hallucinator"] = f"hallucinator-{place}-{made_up}"
        group = sorted(a for a in cell.arguments if a.startswith(("--teacher.", "--adapted.", "--backbone.")))
        if cell.first:
            stages |= {name: f"{name}-{place}-{group}" for name in ("teacher", "adapted")}
            of = {
                name: predictions(
                    name,
                    cell.fold,
                    cell.seed,
                    value,
                    task=task,
                    targets=targets,
                    key=str(group if name[0] in "ta" else own),
                    **sizes,
                )
                for name, value in SKILL.items()
            }
        else:
            stages["student"] = f"student-{key}-{cell.fold}-{cell.seed}"
            how = (skill or {}).get(cell.variant, 0.7)
            rows = predictions("student", cell.fold, cell.seed, how, task=task, targets=targets, key=key, **sizes)
            of = {"student": rows}
        pd.concat(of.values(), ignore_index=True).to_parquet(folder / "predictions.parquet", index=False)
        (folder / "run.json").write_text(json.dumps(record(cell, stages, task, targets, labelled)))
        (folder / "cell.json").write_text(json.dumps({"finished": True, "arguments": cell.arguments}))
    return made.folder
