import pytest

from mtpkdot import limits
from mtpkdot.errors import ConfigError, DataError


def test_a_limit_is_reported_and_can_be_raised_to_what_the_file_declares(monkeypatch):
    monkeypatch.setenv(limits.MAX_PIXELS, "1e3")
    limits.check_pixels(10, 100, "it")
    with pytest.raises(DataError, match=r"it declares .* 11 x 100 .* limit of 1000 .*MTPKDOT_MAX_PIXELS=1100 "):
        limits.check_pixels(11, 100, "it")
    monkeypatch.setenv(limits.MAX_PIXELS, "1100")
    limits.check_pixels(11, 100, "it")
    monkeypatch.setenv(limits.MAX_BYTES, "7")
    with pytest.raises(DataError, match=r"8 bytes, .* limit of 7\..* MTPKDOT_MAX_BYTES=8 "):
        limits.check_bytes(8, "it")


@pytest.mark.parametrize("text", ["", "much", "inf", "nan"])
def test_a_limit_that_is_not_a_number_is_a_user_error(text, monkeypatch):
    monkeypatch.setenv(limits.MAX_BYTES, text)
    with pytest.raises(ConfigError, match="MTPKDOT_MAX_BYTES is"):
        limits.most_bytes()


def test_without_a_setting_a_photograph_passes_and_a_bomb_does_not(monkeypatch):
    for variable in (limits.MAX_BYTES, limits.MAX_PIXELS):
        monkeypatch.delenv(variable, raising=False)
    limits.check_pixels(11648, 8736, "a camera of 100 megapixels")
    limits.check_bytes(2**28, "it")
    with pytest.raises(DataError):
        limits.check_pixels(30_000, 30_000, "it")
    with pytest.raises(DataError):
        limits.check_bytes(2**42, "it")
