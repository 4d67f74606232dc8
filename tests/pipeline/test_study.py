import json

import pytest

from mtpkdot.errors import RunError
from mtpkdot.pipeline.study import Study, option

VARIANTS = {
    "none": {"student.model.method": "none"},
    "wide": {"student.model.method": "pkdot", "teacher.model.fusion.dim": 32},
    "wide_sp": {"student.model.method": "sp", "teacher.model.fusion.dim": 32},
    "pkdot": {"student.model.method": "pkdot"},
}


def study(**more):
    known = {
        "settings": {"all": {}, "few": {"data.labelled_subjects": 5}},
        "variants": VARIANTS,
        "folds": ({"data.split.fold": 0}, {"data.split.fold": 1}),
        "seeds": (3, 4),
    }
    return Study("s", ("--config=c.yaml",), **(known | more))


def test_every_student_has_a_cell_per_setting_fold_and_seed_behind_the_one_it_waits_for():
    cells = list(study().cells())
    places = [cell.place for cell in cells]
    assert len(set(places)) == len(places) == 2 * 2 * 2 * (4 + 2)
    for index, cell in enumerate(cells):
        first = f"{cell.setting}/{cell.upstream}/fold{cell.fold}-seed{cell.seed}"
        assert places.index(first) <= index
        assert cell.first == (cell.place == first)


def test_students_share_the_upstream_stages_that_they_agree_on():
    found = {name: study().upstream(name) for name in VARIANTS}
    assert found == {"none": "upstream", "pkdot": "upstream", "wide": "upstream-wide", "wide_sp": "upstream-wide"}


def test_students_share_upstream_stages_if_only_stages_after_them_differ():
    variants = {name: {"student.model.method": "none", "scaled.model.start": start} for start, name in enumerate("ab")}
    apart, together = study(variants=variants), study(variants=variants, downstream=("student", "scaled"))
    assert [apart.upstream(name) for name in "ab"] == ["upstream-a", "upstream-b"]
    assert [together.upstream(name) for name in "ab"] == ["upstream", "upstream"]
    for cell in together.cells():
        given = [argument for argument in cell.arguments if argument.startswith("--scaled")]
        assert given == ([] if cell.first else [f"--scaled.model.start={'ab'.index(cell.variant)}"])


def test_a_cell_is_a_command_line_of_fit():
    cells = {cell.place: cell for cell in study(shared={"data.generator_seed": "20{seed}"}).cells()}
    student = cells["few/wide_sp/fold1-seed4"]
    assert set(student.arguments) == {
        "--config=c.yaml",
        "--data.generator_seed=204",
        "--data.labelled_subjects=5",
        "--student.model.method=sp",
        "--teacher.model.fusion.dim=32",
        "--data.split.fold=1",
        "--seed_everything=4",
        "--pipeline.root=runs",
        "--pipeline.name=s/few/wide_sp/fold1-seed4",
        "--pipeline.stages=[downstream]",
    }
    upstream = cells["few/upstream-wide/fold1-seed4"].arguments
    assert "--teacher.model.fusion.dim=32" in upstream
    assert not [argument for argument in upstream if argument.startswith("--student")]
    assert "--teacher.model.fusion.dim=32" not in cells["few/upstream/fold1-seed4"].arguments


def test_a_variant_and_a_fold_override_a_setting():
    made = study(shared={"a": 1, "b": 1}, settings={"all": {"b": 2, "c": 2}}, variants={"v": {"c": 3}})
    given = next(cell for cell in made.cells() if not cell.first).arguments
    assert {"--a=1", "--b=2", "--c=3"} <= set(given)
    assert not {"--b=1", "--c=2"} & set(given)


def test_overrides_are_written_as_yaml_reads_them():
    assert option("a.b", {"x": [1, None]}, 7) == '--a.b={"x": [1, null]}'
    assert option("a.b", True, 7) == "--a.b=true"
    assert option("a.b", "s{seed}", 7) == "--a.b=s7"


def test_a_written_study_is_the_same_when_read(tmp_path):
    made = study(root=str(tmp_path), resample="seed", shared={"a": "{seed}"}, downstream=("student", "scaled"))
    made.write()
    assert Study.read(tmp_path / "s") == made


def test_a_folder_without_a_study_says_so(tmp_path):
    with pytest.raises(RunError, match="is not a study"):
        Study.read(tmp_path)


@pytest.mark.parametrize("count", [1, 2, 5, 12, 20])
def test_parts_hold_every_cell_once_and_what_it_waits_for(count):
    variants = {"a": {"student.model.lr": 1}, "b": {"student.model.lr": 2}, "c": {"teacher.model.lr": 1}}
    study = Study("s", (), {"all": {}, "few": {}}, variants, ({}, {}), (0, 1, 2))
    parts = [list(study.cells((part, count))) for part in range(1, count + 1)]
    assert sorted(cell.place for part in parts for cell in part) == sorted(cell.place for cell in study.cells())
    for part in parts:
        run = set()
        for cell in part:
            run.add((cell.setting, cell.fold, cell.seed, cell.variant))
            assert (cell.setting, cell.fold, cell.seed, cell.upstream) in run


def test_starts_of_a_draw_have_its_people_and_seeds_of_their_own():
    cells = {cell.place: cell for cell in study(shared={"data.generator_seed": "20{seed}"}, starts=2).cells()}
    once = {cell.place: cell for cell in study(shared={"data.generator_seed": "20{seed}"}).cells()}
    assert len(cells) == 2 * len(once)
    # The first start is the cell of a study without starts.
    assert all(cells[place] == cell for place, cell in once.items())
    second = cells["few/pkdot/fold1-seed4-start1"]
    assert (second.seed, second.draw, second.start) == (1004, 4, 1)
    assert {"--seed_everything=1004", "--data.labelled_seed=4", "--data.generator_seed=204"} <= set(second.arguments)
    assert len({(cell.setting, cell.variant, cell.fold, cell.seed) for cell in cells.values()}) == len(cells)
    assert cells["few/upstream/fold1-seed4-start1"].seed == 1004


def test_a_study_of_an_earlier_version_has_single_starts(tmp_path):
    made = study(root=str(tmp_path))
    made.write()
    path = tmp_path / "s" / "study.json"
    record = json.loads(path.read_text())
    assert record.pop("starts") == 1
    path.write_text(json.dumps(record))
    assert Study.read(tmp_path / "s") == made
