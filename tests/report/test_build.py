"""Whole reports; and how they look in a browser."""

import re
import shutil
import subprocess

import pandas as pd
import pytest

from mtpkdot.errors import RunError
from mtpkdot.report.build import build
from tests.report import fake
from tests.report.test_page import Outline

CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)


def report(*folders, out):
    files = build(folders, out)
    assert [path.name for path in files] == ["report.html", "report.md", "results.csv"]
    page = (out / "report.html").read_text()
    outline = Outline(page)
    assert len(outline.ids) == len(set(outline.ids))
    assert all(b - a <= 1 for a, b in zip(outline.headings, outline.headings[1:], strict=False))
    assert outline.tags.count("figure") == outline.tags.count("figcaption") == outline.tags.count("svg")
    assert outline.tags.count("svg") == len([a for a in outline.attributes if a[:2] == ("svg", "aria-label")])
    # Nothing is loaded: every address is a place in the page, a picture within it, or the name of a language.
    for tag, key, value in outline.attributes:
        if key in ("src", "href", "xlink:href"):
            assert value.startswith(("#", "data:image/png;base64,")), (tag, key)
    assert "script" not in outline.tags
    return page, (out / "report.md").read_text(), pd.read_csv(out / "results.csv", keep_default_na=False)


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    settings = {f"labelled_{n}": {"data.labelled_subjects": n} for n in ("10", "5", "all")}
    made = fake.study(tmp_path_factory.mktemp("runs") / "s", ("none", "selftraining", "mtpkdot"), 2, settings=settings)
    return fake.write(made, {"mtpkdot": 0.8}, skip={"labelled_5/none/fold1-seed1"})


@pytest.mark.slow
def test_a_report_has_everything_that_needs_no_data(study, tmp_path):
    (study / "labelled_5/none/fold1-seed1").mkdir(parents=True, exist_ok=True)
    (study / "labelled_5/none/fold1-seed1/failed.txt").write_text("Traceback\nValueError: no <luck>\n")
    page, text, table = report(study, out=tmp_path)
    for title in (
        *("Settings side by side", "Gain against the number of labelled people", "Confusion", "Calibration"),
        "Gains per subject",
    ):
        assert f"### {title}" in text
    assert "5 people" in page
    assert "s/labelled_5/none/fold1-seed1" in text
    assert r"ValueError: no \<luck>" in text
    assert "ValueError: no &lt;luck&gt;" in page
    assert "left out" in text
    assert "config.yaml is gone" in text
    missing = text.partition("What is missing")[2]
    assert "whose logs are gone: " in missing
    assert "mtpkdot (labelled_5)" in missing
    assert "Training loss (solid" not in text  # no caption without its figure
    assert set(table["source"]) == {"s"}
    assert set(table.loc[table["reference"] == "selftraining", "method"]) == {"none", "mtpkdot"}
    assert set(table["setting"]) == {"labelled_5", "labelled_10", "labelled_all"}


@pytest.mark.parametrize("case", ["regression", "frames", "ordinal", "one cell", "class absent", "one seed each"])
def test_odd_studies_have_a_report(case, tmp_path):
    made = fake.study(tmp_path / case, folds=1 if "one" in case else 2, seeds=1 if case == "one cell" else 2)
    options = {}
    if case in ("regression", "frames"):
        options = {"task": "regression", "targets": ["valence", "arousal"]}
    elif case == "ordinal":
        options = {"task": "ordinal", "targets": ["0", "1", "2"]}
    elif case == "class absent":
        options = {"targets": ["calm", "pain", "joy"], "people": 1, "each": 2}
    elif case == "one seed each":
        made = fake.study(tmp_path / case, folds=1, seeds=3, resample="seed")
    fake.write(made, **options)
    if case == "frames":
        for path in made.folder.rglob("fold*/predictions.parquet"):
            table = pd.read_parquet(path)
            table["id"] = table["id"].str.replace("_", "/").str.replace(r"^r\d+", "clip", regex=True)
            table["id"] = "clip/" + table.groupby(["stage", "split", "target"]).cumcount().astype(str)
            table.to_parquet(path, index=False)
    _, text, table = report(made.folder, out=tmp_path / "out")
    assert ("Traces over the frames" in text) == (case == "frames")
    assert ("Predictions and truths" in text) == (case in ("regression", "frames"))
    assert ("qwk" in text) == (case == "ordinal")
    assert len(table)


def test_names_with_odd_characters_are_only_names(tmp_path):
    classes = ["<b>calm</b>", "pain & $joy$ | \\alpha_1^2 …"]
    made = fake.study(tmp_path / "s", folds=1, seeds=1)
    fake.write(made, targets=classes)
    page, text, _ = report(made.folder, out=tmp_path / "out")
    assert "<b>calm" not in page
    assert "&lt;b&gt;calm&lt;/b&gt;" in page
    assert r"pain & \$joy\$ \| \\alpha_1^2 …" in text
    assert r"\<b>calm\</b>" in text


def test_several_studies_are_sections_and_unfinished_ones_are_reported(tmp_path):
    made = fake.study(tmp_path / "one", folds=1, seeds=1)
    fake.write(made)
    empty = fake.study(tmp_path / "two", folds=1, seeds=1)
    empty.write()
    _, text, table = report(made.folder, empty.folder, out=tmp_path / "out")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == ["one", "two"]
    assert "Nothing is finished." in text
    assert "two/all/none/fold0-seed0" in text
    assert set(table["source"]) == {"one"}


def test_a_folder_without_a_run_is_reported_before_anything_is_written(tmp_path):
    with pytest.raises(RunError, match="neither a study nor a run"):
        build([tmp_path], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")
def test_a_browser_shows_the_report_without_complaint(study, tmp_path):
    build([study], tmp_path)
    address = (tmp_path / "report.html").as_uri()
    plain = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    shot = ["--enable-logging=stderr", "--window-size=1100,2000", f"--screenshot={tmp_path / 'page.png'}", address]
    done = subprocess.run([*plain, *shot], capture_output=True, text=True, timeout=120, check=True)
    # What pages complain of is logged as CONSOLE.
    assert "CONSOLE" not in done.stderr
    assert (tmp_path / "page.png").stat().st_size > 50_000
    # Nothing is wider than the window, on a telephone either: wide tables and figures scroll or shrink by themselves.
    probe = "<script>document.title = document.documentElement.scrollWidth - innerWidth</script></body>"
    (tmp_path / "probe.html").write_text((tmp_path / "report.html").read_text().replace("</body>", probe))
    for width in (500, 1100):
        window = [f"--window-size={width},900", "--dump-dom", (tmp_path / "probe.html").as_uri()]
        dom = subprocess.run([*plain, *window], capture_output=True, text=True, timeout=120, check=True).stdout
        assert int(re.search(r"<title>(-?\d+)</title>", dom)[1]) <= 0
