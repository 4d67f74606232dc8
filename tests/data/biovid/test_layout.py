"""BioVid's layouts: what is found, and what is said about what is missing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.biovid.layout import CLASSES, HOLDOUT, LOW_REACTION, find, parse_id
from tests.data.helpers import complaint, quick

ANN, BOB = "071309_w_21", "080209_m_26"
HEADER = "subject_id\tsubject_name\tclass_id\tclass_name\tsample_id\tsample_name"


def names(subject=ANN, classes=CLASSES, each=1):
    return [f"{subject}-{name}-{number:03d}" for name in classes for number in range(1, each + 1)]


def touch(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def official(part, clips, signals="filtered", index=False):
    """A part with these clips; media and signals are stand-ins."""
    for clip in clips:
        subject = clip.split("-")[0]
        touch(part / "video" / subject / f"{clip}.mp4")
        touch(part / f"biosignals_{signals}" / subject / f"{clip}_bio.csv")
    if index:
        write_index(part / "starting_point" / "samples.csv", clips)
    return part


def write_index(path, clips, extra=()):
    rows = [
        f"1\t{clip.split('-')[0]}\t{CLASSES.index(clip.split('-')[1])}\t{clip.split('-')[1]}\t{number}\t{clip}"
        for number, clip in enumerate(clips)
    ]
    return touch(path, "\r\n".join([HEADER, *rows, *extra]) + "\r\n")


def framed(root, clips, frames=3):
    for clip in clips:
        level = str(CLASSES.index(clip.split("-")[1]))
        for number in range(1, frames + 1):
            touch(root / level / clip / f"img_{number:05d}.jpg")
        touch(root / "physio" / level / f"{clip}_bio.csv")
    return root


def ids(inventory):
    return [recording.id for recording in inventory.recordings]


def said(inventory, fatal=None):
    """What the problems say, one line each; expected few clips per subject are left aside."""
    return [
        f"{problem.path}: {problem.what}"
        for problem in inventory.problems
        if (fatal is None or problem.fatal == fatal) and "of 100 recordings" not in problem.what
    ]


# --- names -------------------------------------------------------------------------------------------------------


@quick
@given(
    stamp=st.from_regex(r"[0-9]{6}", fullmatch=True),
    sex=st.sampled_from("mw"),
    age=st.integers(1, 120),
    name=st.sampled_from(CLASSES),
    number=st.integers(0, 999),
)
def test_a_clip_name_is_parsed_into_its_parts(stamp, sex, age, name, number):
    subject = f"{stamp}_{sex}_{age}"
    clip = parse_id(f"{subject}-{name}-{number:03d}")
    assert clip == (subject, sex, age, name, number)
    assert CLASSES[clip.level] == name


@pytest.mark.parametrize(
    "text",
    [
        "",
        "071309_w_21",
        "071309_w_21-BL1-081_bio",
        "071309_x_21-BL1-081",
        "71309_w_21-BL1-081",
        "071309_w_021-BL1-081",
        "071309_w_21-PA5-081",
        "071309_w_21-bl1-081",
        "071309_w_21-BL1-81",
        "071309_w_21-BL1-081\n",
        "٠٧١٣٠٩_w_21-BL1-081",
    ],
)
def test_another_name_is_refused_with_its_text(text):
    with pytest.raises(ValueError, match=r"071309_w_21-BL1-081|not one of BL1") as caught:
        parse_id(text)
    assert repr(text) in str(caught.value)


@quick
@given(st.text(max_size=30))
def test_any_text_is_a_name_or_a_value_error(text):
    try:
        clip = parse_id(text)
    except ValueError:
        return
    assert text == f"{clip.subject}-{clip.class_name}-{clip.number:03d}"


def test_protocol_lists_hold_distinct_subjects():
    assert (len(set(LOW_REACTION)), len(set(HOLDOUT))) == (20, 26)
    for subject in LOW_REACTION + HOLDOUT:
        assert parse_id(f"{subject}-BL1-001").subject == subject


# --- the official layout -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["root", "part"])
@pytest.mark.parametrize("index", ["no", "below", "beside"])
def test_the_official_layout_is_found(tmp_path, where, index):
    clips = names(BOB) + names(ANN)
    part = official(tmp_path / "PartA", clips)
    if index != "no":
        write_index((part if index == "below" else tmp_path) / "starting_point" / "samples.csv", clips)
    inventory = find(tmp_path if where == "root" else part)
    assert ids(inventory) == sorted(clips)
    assert said(inventory) == []
    recording = inventory.recordings[-1]
    assert recording.facts == {
        "subject": BOB,
        "sex": "m",
        "age": 26,
        "level": 4,
        "class": "PA4",
        "sample": 1,
        "first": -1,
        "last": -1,
    }
    assert recording.files.get("pictures") == part / "video" / BOB / f"{clips[4]}.mp4"
    assert recording.files.get("table") == part / "biosignals_filtered" / BOB / f"{clips[4]}_bio.csv"
    assert recording.files.get("sound") is None
    assert inventory.counts["subjects"] == (2, 87)
    assert inventory.counts["recordings"] == (10, 8700)


def test_part_b_has_no_known_size(tmp_path):
    official(tmp_path / "PartB", names())
    assert find(tmp_path).counts["recordings"] == (5, None)


def test_one_of_two_parts_must_be_chosen(tmp_path):
    official(tmp_path / "PartA", names(ANN))
    official(tmp_path / "PartB", names(BOB))
    assert "Choose one with `part`" in complaint(lambda: find(tmp_path))
    assert ids(find(tmp_path, part="PartB")) == names(BOB)
    assert ids(find(tmp_path / "PartB", part="PartB")) == names(BOB)
    assert "has no PartB but PartA" in complaint(lambda: find(tmp_path / "PartA", part="PartB"))


def test_a_part_under_another_name_is_taken_at_the_users_word(tmp_path):
    official(tmp_path / "biovid", names())
    assert len(find(tmp_path / "biovid", part="PartA").recordings) == 5
    assert find(tmp_path / "biovid", part="PartA").counts["subjects"] == (1, 87)
    assert find(tmp_path / "biovid").counts["subjects"] == (1, None)


def test_another_folder_is_described(tmp_path):
    touch(tmp_path / "holiday.png")
    (tmp_path / "music").mkdir()
    assert "holds no BioVid: neither PartA/" in (line := complaint(lambda: find(tmp_path)))
    assert "music/, holiday.png" in line
    assert "nothing" in complaint(lambda: find(tmp_path / "music"))
    assert "cannot be listed" in complaint(lambda: find(tmp_path / "absent"))


def test_litter_is_ignored_and_suffixes_may_be_in_capitals(tmp_path):
    part = official(tmp_path / "PartA", names())
    video = part / "video" / ANN
    (video / f"{ANN}-BL1-001.mp4").rename(video / f"{ANN}-BL1-001.MP4")
    for name in (".DS_Store", f"._{ANN}-BL1-001.mp4", "Thumbs.db", "notes.txt"):
        touch(video / name)
    touch(part / "video" / "__MACOSX" / f"{ANN}-BL1-007.mp4")
    touch(tmp_path / "._PartB" / "x")
    inventory = find(tmp_path)
    assert ids(inventory) == names()
    assert said(inventory) == []


def test_a_few_missing_files_are_each_named(tmp_path):
    part = official(tmp_path / "PartA", names(), index=True)
    (part / "video" / ANN / f"{ANN}-BL1-001.mp4").unlink()
    (part / "biosignals_filtered" / ANN / f"{ANN}-PA1-001_bio.csv").unlink()
    (part / "video" / ANN / f"{ANN}-PA2-001.mp4").unlink()
    (part / "biosignals_filtered" / ANN / f"{ANN}-PA2-001_bio.csv").unlink()
    inventory = find(tmp_path)
    assert ids(inventory) == [f"{ANN}-{name}-001" for name in ("PA1", "PA3", "PA4")]
    assert inventory.recordings[0].files.get("table") is None
    fatal = said(inventory, True)
    assert len(fatal) == 2
    assert "PA2-001.mp4: is in the index but has no files" in fatal[0]
    assert "BL1-001_bio.csv: has no usable video" in fatal[1]
    assert [line for line in said(inventory, False) if "PA1-001.mp4: has no usable signals" in line]
    assert inventory.counts["index rows without files"] == (1, 0)
    assert inventory.counts["signals without video"] == (1, 0)
    assert inventory.counts["videos without signals"] == (1, 0)
    assert inventory.lost == [f"{ANN}-{name}-001" for name in ("BL1", "PA2")]


def test_a_missing_subject_is_one_problem_and_a_short_one_a_note(tmp_path):
    part = official(tmp_path / "PartA", names(ANN, each=20))
    write_index(part / "starting_point" / "samples.csv", names(ANN, each=20) + names(BOB, each=20))
    inventory = find(tmp_path)
    assert len(inventory.recordings) == 100
    (line,) = said(inventory)
    assert f"{part / 'video' / BOB}: is in the index but has no files (100 times" in line
    assert inventory.lost == sorted(names(BOB, each=20))
    (part / "video" / ANN / f"{ANN}-BL1-001.mp4").unlink()
    notes = [problem.what for problem in find(tmp_path).problems if not problem.fatal]
    assert notes == ["the subject has 99 of 100 recordings"]


def test_files_that_cannot_be_used_are_reported_and_left_out(tmp_path):
    part = official(tmp_path / "PartA", names())
    touch(part / "video" / "guest" / "guest-BL1-001.mp4")
    touch(part / "video" / BOB / f"{ANN}-BL1-009.mp4")
    touch(part / "video" / ANN / f"{ANN}-PA4-001.mp4", "")
    touch(part / "biosignals_filtered" / ANN / f"{ANN}-PA3-001_bio.csv", "")
    touch(part / "video" / ANN / f"{ANN}-PA2-001.MP4")
    (part / "biosignals_filtered" / ANN / f"{ANN}-PA1-001_bio.csv").unlink()
    (part / "biosignals_filtered" / ANN / f"{ANN}-PA1-001_bio.csv").mkdir()
    inventory = find(tmp_path)
    assert ids(inventory) == names()[:4]
    assert inventory.recordings[3].files.get("table") is None
    fatal, notes = said(inventory, True), said(inventory, False)
    assert [line for line in fatal if "guest-BL1-001.mp4: is not named like" in line]
    assert [line for line in fatal if "BL1-009.mp4: lies in a folder that contradicts its name" in line]
    assert [line for line in fatal if "PA4-001.mp4: is empty" in line]
    assert [line for line in fatal if "PA1-001_bio.csv: is a folder where a file belongs" in line]
    assert [line for line in fatal if "PA3-001_bio.csv: is empty" in line]
    assert inventory.lost == [f"{ANN}-BL1-009", f"{ANN}-PA4-001"]
    assert [line for line in notes if "PA2-001" in line and "twice" in line]


def test_a_clip_that_the_index_does_not_know_is_left_out_with_a_note(tmp_path):
    part = official(tmp_path / "PartA", names())
    write_index(part / "starting_point" / "samples.csv", names()[1:])
    inventory = find(tmp_path)
    assert ids(inventory) == names()[1:]
    (line,) = said(inventory, False)
    assert "BL1-001.mp4: is not in the index" in line


@pytest.mark.parametrize(
    ("row", "reason", "fatal"),
    [
        (f"1\t{BOB}\t0\tBL1\t9\t{ANN}-BL1-002", "subject '080209_m_26' with the clip", True),
        (f"1\t{ANN}\t1\tBL1\t9\t{ANN}-BL1-002", "class 1 'BL1' with the clip", True),
        (f"1\t{ANN}\t0\tPA1\t9\t{ANN}-BL1-002", "class 0 'PA1' with the clip", True),
        (f"1\t{ANN}\t0\tBL1\t9\t{ANN}-BL1-2", "is not a clip name", True),
        (f"1\t{ANN}\t0\tBL1\t9\t{ANN}-BL1-001", "listed before", False),
    ],
)
def test_a_contradictory_row_of_the_index_is_reported(tmp_path, row, reason, fatal):
    part = official(tmp_path / "PartA", names())
    write_index(part / "starting_point" / "samples.csv", names(), [row])
    inventory = find(tmp_path)
    assert ids(inventory) == names()
    (line,) = said(inventory, fatal)
    assert "samples.csv: line 7: " in line
    assert reason in line
    assert inventory.lost == ([f"{ANN}-BL1-002"] if row.endswith("-002") else [])


def test_an_index_is_read_without_header_and_its_damage_is_reported(tmp_path):
    part = official(tmp_path / "PartA", names(), index=True)
    index = part / "starting_point" / "samples.csv"
    text = index.read_text()
    index.write_text("\n".join(text.splitlines()[1:]))
    assert ids(find(tmp_path)) == names()
    # A line that is none costs its clip, an index that is none costs nothing, and both are told.
    index.write_text(text[:-30])
    inventory = find(tmp_path)
    assert ids(inventory) == names()[:-1]
    assert inventory.lost == names()[-1:]
    assert said(inventory, True) == [f"{index}: line 6 has 2 cells separated by tabs where 6 belong"]
    wrong = {text.replace("\t", ","): "line 1 has 1 cells separated by tabs where 6 belong", "": "is empty"}
    for content, what in wrong.items():
        index.write_text(content)
        inventory = find(tmp_path)
        assert ids(inventory) == names()
        assert said(inventory, True) == [f"{index}: {what}"]


def test_a_folder_in_place_of_a_text_file_is_reported(tmp_path):
    (official(tmp_path / "PartA", names()) / "starting_point" / "samples.csv").mkdir(parents=True)
    assert [line for line in said(find(tmp_path), True) if "samples.csv: cannot be read (Is a directory)" in line]
    (framed(tmp_path / "frames", names()) / "train.txt").mkdir()
    assert [line for line in said(find(tmp_path / "frames"), True) if "train.txt: cannot be read (Is a" in line]


def test_raw_signals_are_taken_when_asked_for(tmp_path):
    part = official(tmp_path / "PartA", names(), signals="raw")
    assert find(tmp_path, signals="raw").recordings[0].files.get("table").parent.parent == part / "biosignals_raw"
    line = complaint(lambda: find(tmp_path))
    assert "biosignals_raw/ does" in line
    assert "`signals`" in line


def test_without_any_signals_there_is_one_note(tmp_path):
    touch(tmp_path / "PartA" / "video" / ANN / f"{names()[0]}.mp4")
    inventory = find(tmp_path)
    assert inventory.recordings[0].files.get("table") is None
    (line,) = said(inventory)
    assert "biosignals_filtered: does not exist" in line


def test_without_videos_there_is_nothing_to_do(tmp_path):
    touch(tmp_path / "PartA" / "biosignals_filtered" / ANN / f"{names()[0]}_bio.csv")
    assert "has no folder video/ but biosignals_filtered/" in complaint(lambda: find(tmp_path))


# --- folders of frames -------------------------------------------------------------------------------------------


def test_folders_of_frames_are_found(tmp_path):
    inventory = find(framed(tmp_path, names()))
    assert ids(inventory) == names()
    assert said(inventory) == []
    recording = inventory.recordings[2]
    assert recording.files.get("pictures") == tmp_path / "2" / names()[2]
    assert recording.files.get("table") == tmp_path / "physio" / "2" / f"{names()[2]}_bio.csv"
    assert (recording.facts["level"], recording.facts["first"]) == (2, -1)


def test_lists_say_which_clips_and_frames_are_used(tmp_path):
    framed(tmp_path, names())
    touch(tmp_path / "train.txt", f"4/{names()[4]} 2 3 4\r\n\r\n")
    touch(tmp_path / "val.txt", f"0\\{names()[0]}\t1\t3\t0\n4/{names()[4]} 2 3 4")
    touch(tmp_path / "README.txt", "Frames of BioVid.")
    inventory = find(tmp_path)
    assert ids(inventory) == [names()[0], names()[4]]
    assert [(one.facts["first"], one.facts["last"]) for one in inventory.recordings] == [(1, 3), (2, 3)]
    (line,) = said(inventory)
    assert "README.txt: is not a list" in line
    assert ids(find(tmp_path, lists=[tmp_path / "train.txt"])) == [names()[4]]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (f"4/{ANN}-PA4-001 1 3 1", "label 1 in the folder"),
        (f"4/{ANN}-PA4-001 3 1 4", "frames 3 to 1 are not a range"),
        (f"4/{ANN}-PA4-001 0 3 4", "frames 0 to 3 are not a range"),
        (f"4/{ANN}-PA4-001 1 4 4", "ends before its last listed frame"),
        (f"4/{ANN}-PA4-009 1 3 4", "is listed but is not a folder"),
        (f"0/{ANN}-BL1-001 2 3 0", "has frames 2 to 3 here and (1, 3) before"),
    ],
)
def test_a_listed_clip_that_cannot_be_used_is_reported(tmp_path, line, reason):
    framed(tmp_path, names())
    touch(tmp_path / "train.txt", f"0/{names()[0]} 1 3 0\n1/{names()[1]} 1 3 1\n{line}\n")
    inventory = find(tmp_path)
    assert ids(inventory) == [name for name in names()[:2] if name not in line]
    (told,) = said(inventory, True)
    assert reason in told


def test_a_damaged_list_names_the_line(tmp_path):
    framed(tmp_path, names())
    listed = touch(tmp_path / "train.txt", f"0/{names()[0]} 1 3 0\n0/{names()[1]} 1 3\n")
    empty = touch(tmp_path / "test.txt", "")
    inventory = find(tmp_path)
    assert ids(inventory) == names()[:1]
    told = said(inventory, True)
    assert told[0] == f"{empty}: is empty"
    assert told[1].startswith(f"{listed}: line 2 is '0/{names()[1]} 1 3' where '<level>/<clip>")
    assert len(told) == 2
    assert "is empty" in complaint(lambda: find(tmp_path, lists=[empty]))
    listed.write_text("hello")
    assert "train.txt: has no line" in complaint(lambda: find(tmp_path, lists=[listed]))


def test_unusable_folders_of_frames_are_problems(tmp_path):
    framed(tmp_path, names())
    (tmp_path / "0" / names()[0]).rename(tmp_path / "1" / names()[0])
    touch(tmp_path / "2" / "readme" / "img_00001.jpg")
    for frame in (tmp_path / "3" / names()[3]).iterdir():
        frame.unlink()
    inventory = find(tmp_path)
    assert ids(inventory) == [names()[1], names()[2], names()[4]]
    assert len(said(inventory, True)) == 3


def test_options_of_the_other_layout_are_refused(tmp_path):
    framed(tmp_path / "frames", names())
    official(tmp_path / "PartA", names())
    assert "only one set of signals" in complaint(lambda: find(tmp_path / "frames", signals="raw"))
    assert "has no lists" in complaint(lambda: find(tmp_path, lists=[]))
    framed(tmp_path, names())
    assert "holds both" in complaint(lambda: find(tmp_path))
    assert find(tmp_path, part="PartA").recordings[0].files.get("pictures").suffix == ".mp4"
