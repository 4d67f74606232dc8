"""Aff-Wild2's layout: what is found wherever it was unpacked, and text files of every state."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtpkdot.data.affwild2.layout import TEST_LIST, find, frame_numbers, read_annotation, read_test_list
from tests.data.helpers import complaint, quick, read_or_rejected

VALID = "valence,arousal\n0.1,-0.2\n-5,-5\n0.3,0.4\n"


def touch(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


class Tree:
    """A small data set; the folders may lie anywhere below the root."""

    def __init__(self, root, annotations="VA_Estimation_Challenge", crops="cropped_aligned", videos="."):
        self.root, self.sets, self.crops = root, root / annotations, root / crops
        self.list = root / TEST_LIST
        for name in ("a", "b_left", "b_right"):
            touch(self.sets / "Train_Set" / f"{name}.txt", VALID)
        touch(self.sets / "Validation_Set" / "c_left.txt", VALID)
        touch(self.list, "d\r\ne_right\r\n")
        for name in ("a", "b_left", "b_right", "c_left", "d", "e_right"):
            touch(self.crops / name / "00001.jpg")
        for name in ("batch1/a.mp4", "batch1/b.avi", "batch2/c.MP4", "batch2/d.mp4", "batch2/e.mp4"):
            touch(root / videos / name)
        self.videos = root / videos


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path)


def ids(inventory):
    return [recording.id for recording in inventory.recordings]


def said(inventory, fatal=None):
    return [
        f"{problem.path}: {problem.what}" for problem in inventory.problems if fatal is None or problem.fatal == fatal
    ]


# --- what is found -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "places",
    [
        {},
        {"annotations": "6th ABAW Annotations/VA_Estimation_Challenge"},
        {"annotations": "Annotations/annotations/VA_Estimation_Challenge"},
        {"annotations": "."},
        {"crops": "images/cropped_aligned"},
        {"crops": "cropped_aligned/cropped_aligned"},
        {"videos": "videos/raw"},
    ],
    ids=str,
)
def test_everything_is_found_wherever_it_was_unpacked(tmp_path, places):
    tree = Tree(tmp_path, **places)
    inventory = find(tmp_path)
    assert said(inventory) == []
    assert ids(inventory) == ["a", "b_left", "b_right", "c_left", "d", "e_right"]
    facts = {one.id: (one.facts["set"], one.facts["video"]) for one in inventory.recordings}
    assert facts == {
        "a": ("train", "a"),
        "b_left": ("train", "b"),
        "b_right": ("train", "b"),
        "c_left": ("validation", "c"),
        "d": ("test", "d"),
        "e_right": ("test", "e"),
    }
    left, test = inventory.recordings[1], inventory.recordings[5]
    assert left.files.get("pictures") == tree.crops / "b_left"
    assert left.files.get("sound") == tree.videos / "batch1" / "b.avi"
    assert left.files.get("table") == tree.sets / "Train_Set" / "b_left.txt"
    assert test.files.get("table") is None
    assert inventory.counts == {
        "train videos": (3, 356),
        "validation videos": (1, 76),
        "test videos": (2, None),
        "annotated frames": (12, None),
        "valid ones": (8, None),
        "recordings with a raw video": (6, 6),
    }


@pytest.mark.parametrize("videos", ["batch1/sub/x.mp4", "x.avi", "new_vids/x.mp4"])
def test_raw_videos_lie_in_batches_or_beside_them(tree, videos):
    touch(tree.sets / "Train_Set" / "x.txt", VALID)
    touch(tree.crops / "x" / "00001.jpg")
    touch(tree.root / videos)
    assert find(tree.root).recordings[-1].files.get("sound") == tree.root / videos


def test_folders_can_be_named(tmp_path):
    Tree(tmp_path / "one")
    other = Tree(tmp_path / "two", annotations="labels", crops="faces", videos="films")
    inventory = find(
        tmp_path / "one", annotations=other.sets, crops=tmp_path / "two" / "faces", videos=tmp_path / "two" / "films"
    )
    first = inventory.recordings[0]
    assert first.files.get("table") == other.sets / "Train_Set" / "a.txt"
    assert first.files.get("pictures") == other.crops / "a"
    assert first.files.get("sound") == other.videos / "batch1" / "a.mp4"


def test_the_other_tracks_of_the_challenge_are_left_aside(tree):
    for track in ("EXPR_Classification_Challenge", "AU_Detection_Challenge"):
        touch(tree.root / track / "Train_Set" / "a.txt", "Neutral,Anger\n1\n")
    assert said(find(tree.root)) == []


def test_the_test_list_may_lie_deep_below_the_annotations(tree):
    tree.list.rename(touch(tree.sets / "TestSet" / "names_of_videos_in_each_test_set" / TEST_LIST))
    assert ids(find(tree.root))[-1] == "e_right"


def test_a_side_is_taken_off_unless_a_video_is_called_so(tree):
    touch(tree.root / "batch1" / "turn_left.mp4")
    for name in ("turn_left", "gone_left", "gone_right"):
        touch(tree.sets / "Train_Set" / f"{name}.txt", VALID)
        touch(tree.crops / name / "00001.jpg")
    video = {one.id: one.facts["video"] for one in find(tree.root).recordings}
    assert video["b_right"] == "b"
    assert video["turn_left"] == "turn_left"
    # Two people of one video, which is not there.
    assert video["gone_left"] == video["gone_right"] == "gone"


@pytest.mark.parametrize(("text", "what"), [("", "is empty"), ("d\nd\n", "line 2 lists 'd' for the second time")])
def test_a_damaged_test_list_is_reported_and_affects_nothing_else(tree, text, what):
    touch(tree.list, text)
    inventory = find(tree.root)
    assert ids(inventory) == ["a", "b_left", "b_right", "c_left"]
    assert said(inventory, True) == [f"{tree.list}: {what}"]
    assert inventory.asked == []


def test_litter_and_other_files_are_ignored(tree):
    for name in (".DS_Store", "._a.txt", "Thumbs.db", "notes.doc"):
        touch(tree.sets / "Train_Set" / name)
        touch(tree.crops / "a" / name)
    touch(tree.crops / "._a")
    touch(tree.root / "__MACOSX" / "VA_Estimation_Challenge" / "Train_Set" / "a.txt")
    touch(tree.root / "batch1" / "._a.mp4")
    (tree.crops / "a" / "00001.jpg").rename(tree.crops / "a" / "00001.JPG")
    assert said(find(tree.root)) == []


# --- what is missing or wrong ------------------------------------------------------------------------------------


def test_missing_crops_cost_the_recording_its_pictures(tree):
    (tree.crops / "a" / "00001.jpg").unlink()
    (tree.crops / "b_left" / "00001.jpg").unlink()
    (tree.crops / "b_left").rmdir()
    inventory = find(tree.root)
    assert [one.files.get("pictures") for one in inventory.recordings[:2]] == [None, None]
    assert [line.split(": ")[0] for line in said(inventory, True)] == [
        str(tree.crops / "a"),
        str(tree.crops / "b_left"),
    ]


def test_without_any_crops_or_videos_each_is_reported_once(tmp_path):
    touch(tmp_path / "VA_Estimation_Challenge" / "Train_Set" / "a_left.txt", VALID)
    inventory = find(tmp_path)
    missing, crops = said(inventory, True)
    assert "Validation_Set: does not exist" in missing
    assert "holds no folder cropped_aligned/" in crops
    notes = said(inventory, False)
    assert len(notes) == 2
    for words in ("holds no test list", "holds no raw videos"):
        assert [line for line in notes if words in line]
    assert inventory.recordings[0].facts == {"set": "train", "video": "a"}


def test_a_set_without_a_valid_label_is_a_problem(tree):
    for path in (tree.sets / "Train_Set").iterdir():
        touch(path, "valence,arousal\n-5,-5\n0.2,-5\n")
    inventory = find(tree.root)
    assert said(inventory, True) == [f"{tree.sets / 'Train_Set'}: has no valid label: every row of it is -5"]
    assert inventory.counts["annotated frames"][0] > inventory.counts["valid ones"][0] > 0


def test_a_missing_raw_video_is_a_note_and_an_empty_one_a_problem(tree):
    (tree.root / "batch1" / "a.mp4").unlink()
    touch(tree.root / "batch1" / "b.avi", "")
    touch(tree.root / "batch2" / "lonely.mp4", "")
    inventory = find(tree.root)
    assert [one.id for one in inventory.recordings if one.files.get("sound") is None] == ["a", "b_left", "b_right"]
    assert said(inventory, True) == [f"{tree.root / 'batch1' / 'b.avi'}: is empty"]
    assert len([line for line in said(inventory) if "has no raw video" in line]) == 3
    assert len([line for line in said(inventory, False) if "lonely.mp4: is empty" in line]) == 1
    # Two people of one video stay in one part, whether it can be read or not.
    assert [one.facts["video"] for one in inventory.recordings[:3]] == ["a", "b", "b"]
    assert inventory.lost == []


def test_a_raw_video_that_nothing_asks_for_is_a_note(tree):
    touch(tree.root / "batch1" / "lonely.mp4")
    (line,) = said(find(tree.root))
    assert line == f"{tree.root / 'batch1' / 'lonely.mp4'}: has neither annotations nor a place on the test list"
    touch(tree.sets / "Train_Set" / "a.txt", "")
    assert said(find(tree.root), False) == [line]  # a.mp4 is asked for, in vain


def test_crops_that_nothing_asks_for_are_a_note(tree):
    touch(tree.crops / "stranger" / "00001.jpg")
    (line,) = said(find(tree.root), False)
    assert "stranger: has neither annotations nor" in line
    tree.list.unlink()
    assert any(
        "cropped_aligned: has neither" in line and "(3 times, first d)" in line for line in said(find(tree.root))
    )


def test_a_recording_in_two_sets_is_left_out(tree):
    touch(tree.sets / "Validation_Set" / "a.txt", VALID)
    touch(tree.list, "c_left\nd\ne_right")
    inventory = find(tree.root)
    assert ids(inventory) == ["b_left", "b_right", "d", "e_right"]
    lines = said(inventory, True)
    assert "'a' is in train and validation" in lines[0]
    assert "'c_left' is in validation and test" in lines[1]
    assert inventory.counts["train videos"] == (2, 356)
    assert inventory.lost == ["a", "c_left"]


@pytest.mark.parametrize(
    ("text", "reason"), [("", "is empty"), ("arousal,valence\n0,0", "line 1 is"), ("valence,arousal\n0,x", "line 2")]
)
def test_annotations_that_cannot_be_read_cost_the_recording(tree, text, reason):
    touch(tree.sets / "Train_Set" / "a.txt", text)
    inventory = find(tree.root)
    assert ids(inventory)[0] == "b_left"
    (problem,) = inventory.problems
    assert problem.path == tree.sets / "Train_Set" / "a.txt"
    assert problem.what.startswith(reason)
    assert problem.fatal
    assert inventory.lost == ["a"]


def test_a_folder_in_place_of_annotations_is_a_problem(tree):
    (tree.sets / "Train_Set" / "a.txt").unlink()
    (tree.sets / "Train_Set" / "a.txt").mkdir()
    assert said(find(tree.root), True) == [f"{tree.sets / 'Train_Set' / 'a.txt'}: is a folder where a file belongs"]


def test_doubled_videos_crops_and_lists_are_noted(tree):
    touch(tree.root / "batch2" / "a.avi")
    touch(tree.root / "more" / "cropped_aligned" / "a" / "00001.jpg")
    touch(tree.root / "more" / TEST_LIST, "d")
    inventory = find(tree.root)
    notes = said(inventory)
    assert len(notes) == 3
    assert inventory.recordings[0].files.get("sound") == tree.root / "batch1" / "a.mp4"
    assert inventory.recordings[0].files.get("pictures") == tree.crops / "a"
    assert ids(inventory)[-1] == "e_right"


def test_a_released_video_is_used_before_a_converted_copy_of_it(tree):
    for name in ("batch1/a.mkv", "batch1/b.MKV", "batch1/c.3gp", "batch1/d.webm"):
        touch(tree.videos / name)
    inventory = find(tree.root)
    assert {recording.files["sound"].suffix.lower() for recording in inventory.recordings} == {".mp4", ".avi"}
    notes = said(inventory, fatal=False)
    assert sum("is there twice" in note for note in notes) == 4
    assert not any("another copy" in note for note in notes)


def test_annotations_must_be_there_once(tree):
    touch(tree.root / "old" / "VA_Estimation_Challenge" / "Train_Set" / "a.txt", VALID)
    assert "Choose one with `annotations`" in complaint(lambda: find(tree.root))
    assert len(find(tree.root, annotations=tree.sets).recordings) == 6
    line = complaint(lambda: find(tree.crops.parent / "batch1"))
    assert "holds no folder VA_Estimation_Challenge/" in line
    assert "a.mp4, b.avi" in line
    assert "cannot be listed" in complaint(lambda: find(tree.root / "absent"))
    assert "cannot be listed" in complaint(lambda: find(tree.root, crops=tree.root / "absent"))


# --- annotations -------------------------------------------------------------------------------------------------


@pytest.fixture
def annotation(tmp_path):
    return lambda text: read_annotation(touch(tmp_path / "video.txt", text))


@pytest.mark.parametrize(
    "text",
    [
        VALID,
        VALID.replace("\n", "\r\n") + "\r\n\r\n",
        VALID.replace("valence,arousal", " Valence , AROUSAL "),
        VALID.replace("-5,-5", "-5.0,0.3"),
        VALID.replace("-5,-5", "0.3,-5"),
        "\ufeff" + VALID.replace(",", " , "),
    ],
)
def test_annotations_keep_a_row_for_each_frame(annotation, text):
    values = annotation(text)
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, np.float32([[0.1, -0.2], [np.nan, np.nan], [0.3, 0.4]]))


@quick
@given(st.lists(st.tuples(*[st.floats(-1, 1, width=32) | st.just(-5.0)] * 2), min_size=1, max_size=30))
def test_values_survive_the_way_through_a_file(tmp_path_factory, rows):
    text = "valence,arousal\n" + "".join(f"{v!r},{a!r}\n" for v, a in rows)
    got = read_annotation(touch(tmp_path_factory.mktemp("va") / "video.txt", text))
    wanted = np.array([(np.nan, np.nan) if -5 in row else row for row in rows], dtype=np.float32)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("valence,arousal\n", "holds a header and no rows"),
        ("0.1,0.2\n0.3,0.4\n", "line 1 holds numbers where the header 'valence,arousal' belongs"),
        ("valence;arousal\n0;0\n", "is separated by semicolons, not by commas"),
        ("valence\tarousal\n0\t0\n", "is separated by tabs"),
        ("arousal,valence\n0,0\n", "line 1 is 'arousal,valence'"),
        ("valence,arousal,frame\n0,0,1\n", "line 1 has 3 columns"),
        (VALID + "1.5,0\n", "line 5 holds 1.5, 0, not values in [-1, 1]"),
        (VALID + "0,-2\n", "line 5 holds 0, -2"),
        (VALID + "0,1,0,2\n", "line 5 has 4 cells where the header has 2"),
        (VALID + "0.5\n", "line 5 has 1 cells"),
        (VALID + "0,\n", "line 5 has an empty cell in the column 'arousal'"),
        (VALID + "0,nan\n", "line 5 holds 'nan'"),
        (VALID + "\n0,0\n", "line 5 is empty"),
        (VALID + "0,0;1\n", "line 5 holds '0;1'"),
        (VALID + "0\0,0\n", "zero bytes"),
    ],
)
def test_damaged_annotations_are_refused_with_the_line(annotation, text, words):
    line = complaint(lambda: annotation(text))
    assert "video.txt" in line
    assert words in line


def test_all_damaged_lines_of_annotations_are_reported_whatever_is_wrong_with_them(annotation):
    rows = {3: "0.1", 5: "1.5,0", 8: "0,x", 9: "", 11: "-5,7"}
    text = "\n".join(["valence,arousal", *(rows.get(number, "0.1,0.2") for number in range(2, 15))]) + "\n"
    line = complaint(lambda: annotation(text))
    assert "video.txt: 4 lines are damaged: line 3 has 1 cells where the header has 2; " in line
    assert "line 5 holds 1.5, 0, not values in [-1, 1]; line 8 holds 'x' in the column 'arousal'" in line
    assert "; and 1 more. " in line
    assert "-5,-5" in line


@quick
@given(st.sets(st.integers(0, 19), min_size=1))
def test_damaged_lines_are_counted_and_the_first_three_named(tmp_path_factory, wrong):
    rows = ["0,2" if number in wrong else "0,0.5" for number in range(20)]
    path = touch(tmp_path_factory.getbasetemp() / "many.txt", "\n".join(["valence,arousal", *rows]) + "\n")
    line = complaint(lambda: read_annotation(path))
    told = [int(number) for number in re.findall(r"line (\d+) ", line)]
    assert told == sorted(number + 2 for number in wrong)[:3]
    assert (f"{len(wrong)} lines are damaged" in line) == (len(wrong) > 1)
    assert (f"and {len(wrong) - 3} more" in line) == (len(wrong) > 3)


@quick
@given(data=st.data())
def test_annotations_cut_or_changed_anywhere_are_read_or_refused(tmp_path_factory, data):
    content = bytearray(VALID.encode())
    content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))]
    path = touch(tmp_path_factory.mktemp("damage") / "video.txt", bytes(content))
    values = read_or_rejected(lambda: read_annotation(path))
    assert values is None or np.nanmax(np.abs(values), initial=0) <= 1


# --- test lists --------------------------------------------------------------------------------------------------


@pytest.fixture
def listed(tmp_path):
    return lambda text: read_test_list(touch(tmp_path / TEST_LIST, text))


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("b\na_left\n", [("b", 0, -1), ("a_left", 0, -1)]),
        ("\ufeffb\r\n\r\na.mp4\r\n", [("b", 0, -1), ("a", 0, -1)]),
        ("images\nb\n", [("b", 0, -1)]),
        ("2-30-640x360.v2\n", [("2-30-640x360.v2", 0, -1)]),
        (
            "image_location,valence,arousal\nb/00002.jpg,,\na/00001.jpg,0,0\nb/00009.jpg,,\nb/00010.jpg,,\n",
            [("b", 1, 1), ("a", 0, 0), ("b", 8, 9)],
        ),
        ("a/00003.jpg\na/00002.jpg\n", [("a", 2, 2), ("a", 1, 1)]),
        ("cropped_aligned\\a\\00003.JPG\n", [("a", 2, 2)]),
        ("batch1/a.avi\n", [("a", 0, -1)]),
    ],
)
def test_a_list_names_recordings_or_frames(listed, text, wanted):
    assert listed(text) == wanted


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "is empty"),
        ("image_location,valence,arousal\n", "lists nothing"),
        ("a\nb\na\n", "line 3 lists 'a' for the second time"),
        ("a/00001.jpg\na/00001.jpg\n", "line 2 lists 'a/00001.jpg' for the second time"),
        ("a/00001.jpg\na\n", "line 2 lists 'a' both"),
        ("a/00000.jpg\n", "frames count from 00001.jpg"),
        (b"a\xff\n", "not text in UTF-8"),
    ],
)
def test_a_damaged_list_is_refused_with_the_line(listed, text, words):
    assert words in complaint(lambda: listed(text))


def test_all_damaged_lines_of_a_list_are_reported(listed):
    line = complaint(lambda: listed("a\nb\na\nb/00001.jpg\nc/00000.jpg\nb\nd\n"))
    assert "4 lines are damaged: line 3 lists 'a' for the second time; line 4 lists 'b' both" in line
    assert "line 5 lists 'c/00000.jpg', but frames count from 00001.jpg; and 1 more" in line


@quick
@given(
    st.lists(
        st.tuples(st.from_regex(r"[a-c](_left|_right)?", fullmatch=True), st.integers(0, 6) | st.integers(0, 99_998)),
        unique=True,
    )
)
def test_a_list_of_frames_survives_the_way_through_a_file(tmp_path_factory, frames):
    lines = [f"{name}/{number + 1:05d}.jpg,0,0" for name, number in frames]
    text = "\n".join(["image_location,valence,arousal", *lines])
    path = touch(tmp_path_factory.mktemp("list") / TEST_LIST, text)
    if frames:
        spans = read_test_list(path)
        assert [(name, number) for name, first, last in spans for number in range(first, last + 1)] == frames
    else:
        assert "lists nothing" in complaint(lambda: read_test_list(path))


# --- frames ------------------------------------------------------------------------------------------------------


def test_frames_are_positions_from_zero_and_other_files_are_ignored(tmp_path):
    names = ("00003.jpg", "00001.JPG", "00120.jpeg", "100001.jpg")
    for name in (*names, ".DS_Store", "Thumbs.db", "._00002.jpg", "00004.png", "4.jpg", "x00005.jpg"):
        touch(tmp_path / name)
    numbers = frame_numbers(tmp_path)
    assert numbers.dtype == np.int64
    assert numbers.tolist() == [0, 2, 119, 100_000]


def test_a_folder_without_frames_has_none(tmp_path):
    assert frame_numbers(tmp_path).tolist() == []
    assert "cannot be listed" in complaint(lambda: frame_numbers(tmp_path / "absent"))
    touch(tmp_path / "00000.jpg")
    assert "holds a frame 0" in complaint(lambda: frame_numbers(tmp_path))
