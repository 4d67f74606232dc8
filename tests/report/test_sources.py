import json
import shutil

import pytest

from mtpkdot.errors import RunError
from mtpkdot.report.gather import gather
from mtpkdot.report.sources import labelled_of, root_of, sources
from tests.report import fake


def change(run, **keys):
    """The run as it would be with other settings."""
    record = json.loads((run / "run.json").read_text())
    for stage in record["stages"].values():
        stage["keys"] |= {key: value for key, value in keys.items() if key in stage["keys"]}
        stage["hash"] = f"{stage['hash'][:8]}-{abs(hash(str(sorted(keys.items()))))}"
    text = json.dumps(record)
    for name, stage in json.loads((run / "run.json").read_text())["stages"].items():
        text = text.replace(f'"{stage["hash"]}"', f'"{record["stages"][name]["hash"]}"')  # where it is upstream
    (run / "run.json").write_text(text)


@pytest.fixture
def runs(trained_root, tmp_path):
    shutil.copytree(trained_root / "tiny", tmp_path / "tiny")
    (tmp_path / "stages").mkdir()
    return tmp_path


def test_a_single_run_is_a_study_of_one_cell(runs):
    (source,) = sources([runs / "tiny"])
    (entry,) = source.entries
    assert (entry.setting, entry.variant, entry.fold, entry.seed) == ("all", "mtpkdot", 0, 0)
    assert (entry.root, entry.place, entry.finished) == (runs, "tiny", True)
    gathered = gather(source.entries)
    assert {key[1] for key in gathered.tallies} == {
        *("backbone.video", "backbone.signal", "teacher", "adapted.video", "adapted.signal", "mtpkdot"),
    }


def test_runs_on_the_same_data_are_compared_and_others_are_not(runs):
    for name, keys in {
        "pkdot": {"student.model.method": "pkdot"},
        "again": {"seed_everything": 1},
        "mine": {"student.model.structure.init_args.top_k": 4},
        "other": {"data.init_args.nuisance": 3.0},
        "few": {"data.init_args.labelled_subjects": 3},
    }.items():
        shutil.copytree(runs / "tiny", runs / name)
        change(runs / name, **keys)
    first, second = sources([runs / name for name in ("tiny", "pkdot", "again", "mine", "other", "few")])
    found = [(e.folder.name, e.setting, e.variant, e.seed) for e in first.entries]
    assert found == [
        ("tiny", "all", "mtpkdot", 0),
        ("pkdot", "all", "pkdot", 0),
        ("again", "all", "mtpkdot", 1),
        ("mine", "all", "mine", 0),
        ("few", "labelled_3", "mtpkdot", 0),
    ]
    assert [entry.folder.name for entry in second.entries] == ["other"]


def test_folds_of_one_model_have_one_base_and_other_upstream_models_their_own(runs):
    for name, keys in {
        "fold1": {"data.init_args.split.fold": 1, "seed_everything": 3},
        "other": {"teacher.model.fusion.init_args.dim": 32},
        "batches": {"data.init_args.batch_size": 7},
    }.items():
        shutil.copytree(runs / "tiny", runs / name)
        change(runs / name, **keys)
    (source,) = sources([runs / name for name in ("tiny", "fold1", "other", "batches")])
    assert [(e.variant, e.group, e.fold) for e in source.entries] == [
        ("mtpkdot", "", 0),
        ("mtpkdot", "", 1),
        ("other", "other", 0),
        ("batches", "batches", 0),
    ]


def test_runs_of_one_name_in_several_places_are_kept_apart(runs):
    found = []
    for name, dim in (("a", 16), ("b", 32), ("c", 48)):
        shutil.copytree(runs / "tiny", runs / name / "teacher")
        change(runs / name / "teacher", **{"teacher.model.fusion.init_args.dim": dim})
        found.append(runs / name / "teacher")
    (source,) = sources(found)
    assert [entry.variant for entry in source.entries] == ["mtpkdot", "run-teacher", "run-teacher-2"]
    assert len({entry.group for entry in source.entries}) == 3


def test_a_run_named_twice_counts_once(runs):
    (source,) = sources([runs / "tiny", runs / "tiny", runs / "." / "tiny"])
    assert len(source.entries) == 1


def test_a_folder_without_a_run_is_reported(tmp_path, runs):
    with pytest.raises(RunError, match="neither a study nor a run"):
        sources([tmp_path / "nowhere"])
    (runs / "tiny" / "run.json").write_text(json.dumps({"stages": {}}))
    with pytest.raises(RunError, match="earlier version"):
        sources([runs / "tiny"])


def test_the_root_is_the_nearest_folder_with_stages(runs):
    deep = runs / "s" / "all" / "none" / "fold0-seed0"
    assert root_of(deep) == runs
    assert root_of(runs.parent / "alone") == runs.parent


def test_settings_that_differ_in_labels_folds_and_seeds_alone_are_alike(runs):
    def of(**keys):
        shutil.copytree(runs / "tiny", runs / "x")
        change(runs / "x", **keys)
        record = json.loads((runs / "x" / "run.json").read_text())
        shutil.rmtree(runs / "x")
        return labelled_of(record)

    labelled, rest = of()
    assert labelled == "all"
    assert of(**{"data.init_args.labelled_subjects": 3}) == ("3", rest)
    assert of(**{"data.init_args.split.fold": 2, "seed_everything": 5, "data.init_args.seed": 5}) == ("all", rest)
    assert of(**{"data.init_args.nuisance": 3.0})[1] != rest
    assert of(**{"teacher.model.fusion.init_args.dim": 8})[1] != rest
    assert of(**{"student.model.structure.init_args.top_k": 3})[1] == rest


def test_studies_of_the_same_name_are_told_apart(tmp_path):
    made = [fake.study(tmp_path / place / "s") for place in ("one", "two")]
    for study in made:
        fake.write(study)
    other = fake.study(tmp_path / "one" / "t")
    fake.write(other)
    names = [source.name for source in sources([*(study.folder for study in made), other.folder])]
    assert names == [str(tmp_path / "one" / "s"), str(tmp_path / "two" / "s"), "t"]
