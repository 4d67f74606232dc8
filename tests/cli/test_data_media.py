"""`mtpkdot data check` and `prepare` through the real entry point."""

import json

import pytest

from mtpkdot.cli.main import main
from tests.data.media_helpers import TEST_LIST, copied, put

SMALL = ["--data.pictures.size", "32", "--data.prepare_workers", "1"]


@pytest.fixture
def biovid(biovid_twin, tmp_path):
    return copied(biovid_twin, tmp_path / "raw")


@pytest.fixture
def affwild2(affwild2_twin, tmp_path):
    return copied(affwild2_twin, tmp_path / "raw")


@pytest.mark.parametrize(("name", "recordings"), [("biovid", 15), ("affwild2", 7)])
def test_a_whole_data_set_is_ready_and_can_be_prepared(name, recordings, request, capsys):
    root = request.getfixturevalue(name)
    assert main(["data", "check", name, str(root), *SMALL]) == 0
    printed = capsys.readouterr()
    *_, said, step = printed.out.rstrip().splitlines()
    assert said == f"ready: {recordings} recordings"
    assert step.startswith(f"Next: `mtpkdot data prepare --config configs/{name}.yaml --data.root={root} ")
    assert not printed.err
    for _ in range(2):
        assert main(["data", "prepare", name, str(root), *SMALL]) == 0
        printed = capsys.readouterr()
        assert f"is ready: {recordings} recordings" in printed.out
        assert f"mtpkdot fit --config configs/{name}.yaml --data.root={root} " in printed.out
        assert not printed.err


def first(root, pattern):
    return sorted(root.glob(pattern))[0]


def halved(path):
    put(path, path.read_bytes()[: path.stat().st_size // 2])


def without_ecg(path):
    return path.read_text().replace("ecg", "eeg", 1)


DAMAGE = {
    "torn video": ("biovid", "PartA/video/*/*BL1*.mp4", halved),
    "text as video": ("biovid", "PartA/video/*/*PA4*.mp4", lambda path: put(path, "hello")),
    "empty video": ("biovid", "PartA/video/*/*PA4*.mp4", lambda path: put(path, "")),
    "empty table": ("biovid", "PartA/biosignals_filtered/*/*.csv", lambda path: put(path, "")),
    "header only": ("biovid", "PartA/biosignals_filtered/*/*.csv", lambda path: put(path, "time\tgsr\tecg\n")),
    "wrong header": ("biovid", "PartA/biosignals_filtered/*/*.csv", lambda path: put(path, "t\tg\n1\t2\n")),
    "missing column": ("biovid", "PartA/biosignals_filtered/*/*.csv", lambda path: put(path, without_ecg(path))),
    "torn row": ("biovid", "PartA/biosignals_filtered/*/*.csv", lambda path: put(path, path.read_bytes()[:-9])),
    "odd subject": ("biovid", "PartA/video/*/*PA4*.mp4", lambda path: path.rename(path.with_name("x-PA4-1.mp4"))),
    "signals without video": ("biovid", "PartA/video/*/*PA4*.mp4", lambda path: path.unlink()),
    "torn crop": ("affwild2", "cropped_aligned/*/00007.jpg", halved),
    "empty crop": ("affwild2", "cropped_aligned/*/00007.jpg", lambda path: put(path, "")),
    "torn raw video": ("affwild2", "batch2/*.avi", halved),
    "empty raw video": ("affwild2", "batch2/*.avi", lambda path: put(path, "")),
    "empty annotation": ("affwild2", "VA*/Train_Set/*.txt", lambda path: put(path, "")),
    "other header": ("affwild2", "VA*/Train_Set/*.txt", lambda path: put(path, "a,b\n1,2\n")),
    "out of range": ("affwild2", "VA*/Train_Set/*.txt", lambda path: put(path, "valence,arousal\n0.1,7\n")),
    "no crops": ("affwild2", "cropped_aligned/*", lambda path: path.rename(path.parents[1] / "aside")),
}

# Something of the recording is left: its pictures.
KEPT = {
    *("empty table", "header only", "wrong header", "missing column", "torn row"),
    *("torn crop", "empty crop", "torn raw video", "empty raw video"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_reported_in_one_line_and_may_be_skipped(kind, request, capsys, complaint):
    name, pattern, damage = DAMAGE[kind]
    root = request.getfixturevalue(name)
    damage(first(root, pattern))
    line = complaint(["data", "prepare", name, str(root), *SMALL], 1)
    assert str(root) in line
    assert "on_error to skip" in line or line.endswith(".")
    assert main(["data", "check", name, str(root), *SMALL]) == 1
    printed = capsys.readouterr()
    assert not printed.err
    # Signals that lose their video are a problem of their own, but no recording. One without them is kept.
    count = 2 if kind in ("empty video", "odd subject") else 1
    lost = 0 if kind in KEPT else 1
    assert f"not ready: {count} problems affect {lost} recordings" in printed.out.rstrip().splitlines()[-1]
    skip = [*SMALL, "--data.on_error", "skip"]
    assert main(["data", "check", name, str(root), *skip]) == 0
    printed = capsys.readouterr().out.rstrip().splitlines()[-2]
    rest = {"biovid": 15, "affwild2": 7}[name] - lost
    assert printed == f"ready: {rest} recordings; {lost} recordings left out, {count} problems"
    assert main(["data", "prepare", name, str(root), *skip]) == 0
    printed = capsys.readouterr()
    assert f"is ready: {rest} recordings" in printed.out
    assert f"; {lost} recordings left out, {count} problems, listed in store.json" in printed.out
    assert not printed.err
    record = json.loads(next(root.with_name("raw.store").glob("*/store.json")).read_text())
    assert (len(record["left_out"]), len(record["problems"])) == (lost, count)


@pytest.mark.parametrize(
    ("name", "removed", "keys", "says"),
    [
        ("biovid", "PartA/*/*/*w_2[1-9]*", [], "subjects: 5 folds cannot be made"),
        ("biovid", "", ["--data.split", "{scheme: kfold, folds: 9}"], "5 subjects: 9 folds cannot be made"),
        ("biovid", "PartA/*/*/*PA4*", [], "no training sample has the class 'PA4'"),
        ("biovid", "", ["--data.classes", "[BL1, PA1]"], "no training sample has the class 'PA1'"),
        ("biovid", "", ["--data.labelled_subjects", "40"], "labels of 3 subjects"),
        ("affwild2", "VA*/Validation_Set/*.txt", [], "no official test part"),
        ("affwild2", "VA*/Train_Set/*.txt", [], "the train part is empty"),
    ],
)
def test_the_check_reports_problems_of_the_split_in_the_words_of_fit(
    name, removed, keys, says, request, capsys, complaint
):
    root = request.getfixturevalue(name)
    for path in root.glob(removed) if removed else []:
        path.unlink()
    keys = [*SMALL, *keys, "--data.on_error", "skip"]
    assert main(["data", "check", name, str(root), *keys]) == 1
    said = capsys.readouterr().out.rstrip().splitlines()[-1]
    assert said.startswith("not ready: ")
    assert says in said
    config = ["--config", f"configs/{name}.yaml", f"--data.root={root}", *keys]
    line = complaint(["fit", *config], 1 if "class" in says else 2)
    assert said.removeprefix("not ready: ") in line


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (["check"], "no data set is named"),
        (["check", "kinetics", "x"], "no data set 'kinetics'"),
        (["prepare", "biovid"], "the folder is not named"),
        (["prepare", "biovid", "nowhere"], "nowhere does not exist"),
        (["check", "biovid", "."], "holds no BioVid"),
        (["check", "affwild2", "."], "holds no folder VA_Estimation_Challenge/"),
        (["check", "biovid", ".", "--data.frames", "0"], "frames must be 1 or more"),
        (["prepare", "--data", "PlantedData"], "has no raw recordings"),
        (["check", "--data", "PlantedData", "--quick"], "--quick is for data sets of media"),
        (["check", "--data", "PlantedData", "--data.subjects", "1"], "subjects"),
        (["prepare", "biovid", ".", "--data.part", "PartC"], "PartC"),
    ],
)
def test_mistakes_are_reported_in_one_line(argv, says, complaint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert says in complaint(["data", *argv])
    assert not list(tmp_path.iterdir())


def test_data_without_raw_recordings_are_read_whole(capsys):
    assert main(["data", "check", "--data", "PlantedData"]) == 0
    assert capsys.readouterr().out.startswith("ready: PlantedData: 1200 samples of 40 subjects: 780 train")


def test_a_store_that_cannot_be_written_is_reported(biovid, complaint):
    line = complaint(["data", "prepare", "biovid", str(biovid), *SMALL, "--data.store", "/proc/none"])
    assert "cannot be written" in line


def test_a_quick_check_looks_at_no_media(affwild2, capsys):
    halved(first(affwild2, "cropped_aligned/*/00007.jpg"))
    assert main(["data", "check", "affwild2", str(affwild2), "--quick", *SMALL]) == 0
    (affwild2 / TEST_LIST).unlink()
    assert main(["data", "check", "affwild2", str(affwild2), "--quick", "--all", *SMALL]) == 0
    assert "note:" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["check", "prepare"])
def test_help_prints_the_usage(verb, capsys):
    assert main(["data", verb, "--help"]) == 0
    assert f"usage: mtpkdot data {verb} NAME FOLDER" in capsys.readouterr().out
