import pytest

from mtpkdot import tracebacks
from mtpkdot.losses.selection import TeacherSelection
from mtpkdot.tracebacks import own_frames, place_of


def test_own_code_in_a_checkout_of_the_packages_name_is_own_code(tmp_path):
    """As `git clone` makes it: mtpkdot/mtpkdot, with the user's files beside."""
    path = tmp_path / "mtpkdot" / "my_project.py"
    path.parent.mkdir()
    path.write_text("def fail():\n    raise KeyError('mine')\n")
    space = {}
    exec(compile(path.read_text(), str(path), "exec"), space)
    with pytest.raises(KeyError) as caught:
        space["fail"]()
    assert place_of(caught.value) == "my_project.py, line 2"
    assert [frame.filename for frame in own_frames(caught.value)][-1] == str(path)


def test_code_of_the_package_is_not():
    with pytest.raises(ValueError, match="temperature") as caught:
        TeacherSelection(temperature=0)
    assert all(frame.filename == __file__ for frame in own_frames(caught.value))
    assert tracebacks.is_of_package(tracebacks.__file__)
