"""Sound and signals around the steps of a recording."""

import numpy as np

from mtpkdot.data.media.tracks import SignalTrack, SoundTrack
from mtpkdot.data.media.windows import Windows


def test_pieces_at_the_ends_are_silent_for_sound_and_moved_within_for_signals():
    cut = Windows(frames=5, clips=4).cut(np.arange(20) / 5, np.ones(20, dtype=bool))
    assert cut.middle.tolist() == [[0.4, 1.4, 2.4, 3.4]]
    sound, signal = SoundTrack(1.0, 100.0), SignalTrack(1.0, 100.0, ("eda",))
    assert sound.starts(cut, 300).tolist() == [[-10, 90, 190, 290]]
    assert signal.starts(cut, 300).tolist() == [[0, 90, 190, -1]]
    assert signal.starts(cut, 250).tolist() == [[0, 90, 150, -1]]
    assert signal.samples({"length.signal.eda": 107.0}) == sound.samples({"length.sound": 107}) == 107
    assert signal.samples({"length.signal.eda": 99.0}) == 0
    assert signal.samples({"length.signal.eda": float("nan")}) == sound.samples({}) == 0
