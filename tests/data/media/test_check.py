"""A check finds what preparing would stumble over, in the same words."""

from pathlib import Path
from types import SimpleNamespace

import pytest

from mtpkdot.data import AffWild2, BioVid
from mtpkdot.data.media.check import Report, check
from mtpkdot.data.media.pictures import PictureSettings
from mtpkdot.data.media.recordings import Inventory, Problem
from mtpkdot.errors import DataConfigError
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
    # Without its signals, a clip is still a clip.
    assert (report.usable, report.lost) == (12, 3)
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
        data = SimpleNamespace(
            inventory=lambda: found(root),
            preparation=plan(root, tmp_path, workers=workers),
            examiner=lambda: None,
            on_error="raise",
        )
        report = check(data)
        assert [(problem.path, problem.what, problem.step) for problem in report.fatal] == [
            (root / "r2", "is bad", "Make it good.")
        ]
        assert (report.decoded, report.usable, report.lost) == (8, 7, 1)
    (root / "r5").write_text("deadly")
    assert "a process was killed" in complaint(lambda: check(data))


def test_a_mistake_in_the_call_is_not_reported_as_a_damaged_file(tmp_path):
    root = raw(tmp_path / "raw")
    (root / "r2").write_text("unwanted")
    for workers in (1, 2):
        preparation = plan(root, tmp_path, workers=workers)
        with pytest.raises(DataConfigError, match="the reader reads nothing of the kind"):
            check(SimpleNamespace(inventory=lambda: found(root), preparation=preparation, examiner=lambda: None))


def test_descriptions_of_problems_are_shown_unchanged():
    whats = ("is empty (0 bytes)", "holds no frames img_00001.jpg ...", "is bad.", "ends with v2.")
    inventory = Inventory(problems=[Problem(Path("/d/noraw/00040.jpg"), what, "Mend it.") for what in whats])
    told = [line.strip() for line in Report(inventory, 0, 0, 0).lines()]
    begin = "problem: /d/noraw/00040.jpg: "
    assert told == [
        f"{begin}is empty (0 bytes). Mend it.",
        f"{begin}holds no frames img_00001.jpg ... Mend it.",
        f"{begin}is bad. Mend it.",
        f"{begin}ends with v2. Mend it.",
    ]


def audio_taken(path):
    """A video without its sound stream."""
    import av

    whole = path.with_name("whole.mp4")
    path.rename(whole)
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                target.mux(packet)
    whole.unlink()


def test_every_damaged_crop_and_every_oddity_of_a_raw_video_is_reported(affwild2_twin, tmp_path):
    root = copied(affwild2_twin, tmp_path / "raw")
    mute, torn, gone = sorted(root.glob("batch*/*.mp4"))[:3]
    audio_taken(mute)
    put(torn, torn.read_bytes()[: torn.stat().st_size // 2])
    gone.unlink()
    crops = sorted(path for path in (root / "cropped_aligned").rglob("*.jpg") if path.parent.name.startswith(gone.stem))
    for path in crops[-5:]:
        path.unlink()
    put(crops[2], b"")
    put(crops[4], crops[4].read_bytes()[:400])
    put(root / "batch1" / "lonely.mp4", mute.read_bytes())
    report = check(AffWild2(root=str(root), prepare_workers=1))
    assert sorted(str(problem.path) for problem in report.fatal) == sorted(map(str, (torn, crops[2], crops[4])))
    assert (report.usable, report.lost) == (7, 0)
    lines = [line.strip() for line in report.lines()]
    assert f"problem: {crops[2]}: is empty (0 bytes). Copy the picture again, or leave it out." in lines
    notes = [line for line in lines if line.startswith("note: ")]
    assert len([line for line in notes if f"{mute}: has no sound stream" in line]) == 1
    assert len([line for line in notes if "lonely.mp4: has neither annotations nor" in line]) == 1
    table = next(root.glob(f"VA*/*/{crops[-1].parent.name}.txt"))
    rows = len(table.read_text().split()) - 1
    last = int(crops[-6].stem)
    assert last < rows
    assert (
        len([line for line in notes if f"{table}: the last {rows - last} of {rows} rows have no picture" in line]) == 1
    )
