"""A check finds what preparing would stumble over, in the same words."""

from types import SimpleNamespace

from mtpkdot.data import BioVid
from mtpkdot.data.check import check
from mtpkdot.data.pictures import PictureSettings
from tests.data.helpers import complaint
from tests.data.media_helpers import copied, found, plan, put, raw


def made(root, **options):
    return BioVid(root=str(root), pictures=PictureSettings(size=32), **{"prepare_workers": 1, **options})


def test_a_whole_data_set_has_no_fatal_problem(biovid_twin):
    report = check(made(biovid_twin))
    assert (report.fatal, report.decoded, report.usable) == ([], 15, 15)
    lines = list(report.lines())
    assert any(line.split()[:2] == ["recordings", "15"] for line in lines)
    assert not any("problem:" in line for line in lines)


def test_every_damaged_file_is_named_once(biovid_twin, tmp_path):
    root = copied(biovid_twin, tmp_path / "raw") / "PartA"
    videos = sorted((root / "video").rglob("*.mp4"))
    tables = sorted((root / "biosignals_filtered").rglob("*.csv"))
    put(videos[0], videos[0].read_bytes()[:3000])
    put(videos[4], "no video")
    put(tables[8], tables[8].read_text().replace("gsr", "time", 1))
    videos[12].unlink()
    (root / "video" / videos[2].parent.name / "someone-PA4-001.mp4").write_bytes(b"x")
    report = check(made(root))
    named = [problem.path.name for problem in report.fatal]
    assert sorted(named) == sorted(
        [videos[0].name, videos[4].name, tables[8].name, tables[12].name, "someone-PA4-001.mp4"]
    )
    assert report.usable == 11
    for problem in report.fatal:
        assert str(problem.path) not in problem.what
        assert problem.step
    text = "\n".join(report.lines(most=2))
    assert "and 3 more of this kind (--all shows them)" in text
    quick = check(made(root), decode=False)
    assert (quick.decoded, len(quick.fatal)) == (0, 2)


def test_several_processes_find_the_same(tmp_path):
    root = raw(tmp_path / "raw")
    (root / "r2").write_text("bad")
    for workers in (1, 2):
        data = SimpleNamespace(inventory=lambda: found(root), preparation=plan(root, tmp_path, workers=workers))
        report = check(data)
        assert [(problem.path, problem.what, problem.step) for problem in report.fatal] == [
            (root / "r2", "is bad", "Make it good.")
        ]
        assert (report.decoded, report.usable) == (8, 7)
    (root / "r5").write_text("deadly")
    assert "a process was killed" in complaint(lambda: check(data))
