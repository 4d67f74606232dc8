"""Fixtures of the data layer's tests."""

from pathlib import Path

import pytest

from mtpkdot.data.media.detectors import Detector, open_detector
from tests.data.helpers import Study
from tests.data.media_helpers import YUNET, needs_cascade, needs_yunet


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A small data set whose files the test may change before they are read."""
    return Study(tmp_path)


@pytest.fixture(
    params=[
        pytest.param("haar", marks=needs_cascade, id="haar"),
        pytest.param(str(YUNET), marks=needs_yunet, id="yunet"),
    ]
)
def detector(request: pytest.FixtureRequest) -> Detector:
    """A detector of faces, of every kind that can be had."""
    return open_detector(request.param)
