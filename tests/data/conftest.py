"""Fixtures of the data layer's tests."""

from pathlib import Path

import pytest

from tests.data.helpers import Study


@pytest.fixture
def study(tmp_path: Path) -> Study:
    """A small data set whose files the test may change before they are read."""
    return Study(tmp_path)
