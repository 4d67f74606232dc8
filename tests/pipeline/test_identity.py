"""What costs a stage and what does not: settings, defaults, revisions, and the code of a copy that is changed."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mtpkdot
from mtpkdot.cli.main import main
from mtpkdot.data.splits import Split
from mtpkdot.losses.rivals import RIVALS
from mtpkdot.models import FrameEncoder, LogMelEncoder, SignalEncoder, SpectrogramEncoder, VideoEncoder
from mtpkdot.modules import HallucinatorModule
from mtpkdot.modules.teaching import METHODS
from mtpkdot.pipeline import config as configs
from mtpkdot.pipeline.config import parse
from mtpkdot.pipeline.identity import MACHINE, changed, parameters, trains_anew
from mtpkdot.pipeline.jobs import make_jobs, wanted_stages
from mtpkdot.pipeline.stages import stage_classes
from mtpkdot.sources import pieces
from mtpkdot.syntax import digest_of

ALL = ["backbone.video", "backbone.signal", "teacher", "adapted", "hallucinator", "student"]
NONE: list[str] = []

# A source line of the package, what becomes of it, and the stages that are trained anew for that.
MUTATIONS = {
    "an activation of the T-Net": ("models/tnets/hourglass.py", "nn.ReLU()", "nn.GELU()", ["hallucinator", "student"]),
    "a docstring": ("models/tnets/hourglass.py", "Hourglass of linear layers", "Layers like an hourglass", NONE),
    "a comment": (
        "models/tnets/hourglass.py",
        "sizes = [in_dim",
        "# from wide to narrow\n        sizes = [in_dim",
        NONE,
    ),
    "a type hint": (
        "models/tnets/hourglass.py",
        "self, in_dim: int, out_dim: int",
        "self, in_dim: int, out_dim: 'int'",
        NONE,
    ),
    "an argument that nothing reads": (
        "models/tnets/hourglass.py",
        "activation: bool = True",
        "activation: bool = True, x=1",
        NONE,
    ),
    "a function that nothing calls": (
        "models/tnets/hourglass.py",
        "class Hourglass",
        "def spare():\n    return 1\n\n\nclass Hourglass",
        NONE,
    ),
    "a revision": (
        "models/tnets/hourglass.py",
        "    def forward",
        "    revision = 1\n\n    def forward",
        ["hallucinator", "student"],
    ),
    "the text of an error": ("models/encoder.py", "FeatureEncoder reads vectors", "A FeatureEncoder reads", NONE),
    "the encoder": ("models/encoder.py", "if hidden:", "if hidden > 1:", ALL),
    "an encoder that nobody has": ("models/visual.py", "return", "return None or", NONE),
    "the fusion": ("models/fusions/gated.py", "* 0.02", "* 0.03", ["teacher", "adapted", "student"]),
    "the task loss": ("losses/task.py", "return", "return 2 *", ALL),
    "a default": ("modules/hallucinator.py", '= "mse"', '= "mmd"', ["hallucinator", "student"]),
    "the gradients' seeds": ("pipeline/callbacks.py", "torch.manual_seed(int(", "torch.manual_seed(1 + int(", ALL),
    "which epoch is kept": ("pipeline/callbacks.py", 'late = monitor.startswith("train/")', "late = True", ALL),
    "the direction of a metric": ("metrics/collections.py", 'return "min" if', 'return "max" if', ALL),
    "the Trainer": (
        "pipeline/trainer.py",
        "limit_train_batches=limit_train_batches,",
        "limit_train_batches=2,",
        ALL,
    ),
    "another method's rival": ("losses/rivals/logits.py", "return", "return 2 *", NONE),
    "another method's weights": ("modules/teaching/methods.py", '"transport": 0.6', '"transport": 0.5', NONE),
    "a field of the split that is read": ("data/splits.py", "validation: float = 0.2", "validation: float = 0.3", ALL),
    "a field of the split that is not": (
        "data/splits.py",
        "    seed: int = 0",
        "    seed: int = 0\n    more: int = 0",
        NONE,
    ),
    "the progress bar": ("pipeline/callbacks.py", "leave=False", "leave=True", NONE),
}
# A version with new options, none of which anybody uses.
OPTIONS = [
    (
        "modules/hallucinator.py",
        'discrepancy: Discrepancy = "mse",',
        'discrepancy: Discrepancy = "mse", more: int | None = None,',
    ),
    ("models/encoder.py", "dropout: float = 0.2,", "dropout: float = 0.2, more: int | None = None,"),
    ("data/base.py", "drop_last: bool = False,\n    )", "drop_last: bool = False, more: int | None = None,\n    )"),
    (
        "pipeline/stages.py",
        "accumulate_grad_batches: int = 1",
        "accumulate_grad_batches: int = 1\n    more: int | None = None",
    ),
]


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package, to be changed; its folder holds a store of stages as if they had been trained with it."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(Path(mtpkdot.__file__).parent, folder / "mtpkdot", ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def trained_anew(copy, config, mutations):
    """Stages that a copy would train anew, and why, as it is and under every mutation."""
    script = Path(__file__).with_name("copied.py")
    arguments = [str(script), str(config), str(copy / "runs"), json.dumps(mutations)]
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, cwd=copy
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def mutated(copy, tiny_config):
    found = trained_anew(copy, tiny_config, [mutation[:3] for mutation in MUTATIONS.values()])
    return dict(zip(["nothing", *MUTATIONS], found, strict=True))


def test_unchanged_code_reuses_every_stage(mutated):
    assert mutated["nothing"] == {}


@pytest.mark.parametrize("what", MUTATIONS)
def test_a_changed_line_retrains_only_the_stages_that_depend_on_it(what, mutated):
    file, _, _, stages = MUTATIONS[what]
    assert list(mutated[what]) == stages
    if stages and what != "a revision":
        assert f"mtpkdot/{file}" in mutated[what][stages[0]]


def test_new_options_that_are_not_used_retrain_no_stage(copy, mutated, tiny_config):
    for file, old, new in OPTIONS:
        source = (copy / "mtpkdot" / file).read_text()
        assert old in source
        (copy / "mtpkdot" / file).write_text(source.replace(old, new, 1))
    assert trained_anew(copy, tiny_config, []) == [{}]


# Settings


def record(chosen=(), **keys):
    return {"keys": keys, "chosen": list(chosen), "sources": {}}


def test_a_value_that_one_version_does_not_know_differs_only_if_it_was_chosen():
    assert changed(record(a=1), record(a=1, new=None)) is None
    assert changed(record(a=1, old=3), record(a=1)) is None
    assert str(changed(record(a=1), record(["new"], a=1, new=2))) == "new was None and is 2"
    assert str(changed(record(["old"], a=1, old=3), record(a=1))) == "old was 3 and is None"


def test_a_changed_default_differs_and_is_reported_as_a_default():
    found = changed(record(["b"], a=1, b=2), record(["b"], a=5, b=2))
    assert (str(found), found.by_default) == ("a was 1 by default and is 5", True)
    assert not changed(record(["a"], a=1), record(a=5)).by_default


def test_keys_of_the_machine_can_be_left_out():
    old, new = record(MACHINE, **dict.fromkeys(MACHINE, 1)), record(MACHINE, **dict.fromkeys(MACHINE, 2))
    assert changed(old, new) is not None
    assert changed(old, new, machine=False) is None


def test_a_class_is_the_same_by_the_name_of_its_package_and_by_that_of_mtpkdot(tiny_config):
    records = []
    for path in ("mtpkdot.PlantedData", "mtpkdot.data.PlantedData", "PlantedData"):
        experiment = parse("fit", ["--config", str(tiny_config), f"--data.class_path={path}"])
        experiment.config["data"]["class_path"] = path if "." in path else experiment.config["data"]["class_path"]
        jobs = make_jobs(experiment, wanted_stages(experiment)[1])
        records.append({name: job.stored.hash for name, job in jobs.items()})
        assert jobs["teacher"].identity.record["keys"]["data.class_path"] == "mtpkdot.data.PlantedData"
    assert records[0] == records[1] == records[2]


def test_own_stages_of_another_class_and_the_same_arguments_differ(tiny_config):
    """Whatever is known of their sources: those of an installed package are not followed."""
    settings = {}
    for name in ("Mixture", "Copied"):
        extra = json.dumps({"mine": {"class_path": f"tests.extending.own_stage.{name}"}})
        job = plan(["--config", str(tiny_config), f"--pipeline.extra_stages={extra}"])["mine"]
        settings[name] = job.identity
    assert settings["Mixture"].keys["mine.class_path"] == "tests.extending.own_stage.Mixture"
    assert settings["Mixture"].hash != settings["Copied"].hash


def test_arguments_of_base_classes_and_fields_are_known_with_their_defaults():
    assert parameters(HallucinatorModule)["discrepancy"][1] == "mse"
    assert parameters(HallucinatorModule)["lr"][1] == 1e-3
    assert parameters(Split)["test_subjects"][1] == []
    assert "options" not in parameters(HallucinatorModule)


@pytest.mark.parametrize(
    ("policy", "file", "released", "anew"),
    [
        (None, "mtpkdot/models/tnets/hourglass.py", False, True),
        (None, "mtpkdot/models/tnets/hourglass.py", True, False),
        (None, "own/encoder.py", True, True),
        ("warn", "own/encoder.py", False, False),
        ("ignore", "mtpkdot/models/tnets/hourglass.py", False, False),
        ("retrain", "mtpkdot/models/tnets/hourglass.py", True, True),
    ],
)
def test_changed_code_trains_anew_where_someone_works_in_it(policy, file, released, anew, monkeypatch):
    monkeypatch.setattr("mtpkdot.sources._is_installed", lambda path: released)
    assert trains_anew(policy, [file]) == anew
    assert not trains_anew(policy, [])


def test_a_changed_default_trains_anew_under_every_code_policy(trained_root, tiny_config, tmp_path, monkeypatch):
    line = ["--config", str(tiny_config), "--pipeline.root", str(trained_root), "--pipeline.code=ignore"]
    before = plan(line)
    assert all(job.stored.exists() for job in before.values())
    monkeypatch.setattr(HallucinatorModule.__init__, "__defaults__", (None, None, "mmd"))
    configs._parser.cache_clear()
    try:
        after = plan(line)
    finally:
        configs._parser.cache_clear()
    assert [name for name in after if not after[name].stored.exists()] == ["hallucinator", "student"]
    assert "hallucinator.model.discrepancy was 'mse' by default and is 'mmd'" in after["hallucinator"].note


def plan(line):
    experiment = parse("fit", line)
    return make_jobs(experiment, wanted_stages(experiment)[1])


# A user's own code

ENCODER = """
from own_helper import scale
from mtpkdot.models import FeatureEncoder


class Own(FeatureEncoder):
    def forward(self, x, mask):
        features, mask = super().forward(x, mask)
        return scale(features), mask
"""
HELPER = "def scale(x):\n    return 2 * x\n"


@pytest.fixture
def own(tiny_config, tmp_path, monkeypatch):
    """Trains one backbone with an encoder of the user's own, which imports a helper; the helper, and the call."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("own_encoder", "own_helper"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    (tmp_path / "own_encoder.py").write_text(ENCODER)
    (tmp_path / "own_helper.py").write_text(HELPER)
    line = ["fit", "--config", str(tiny_config), "--pipeline.root", str(tmp_path / "runs")]
    line += ["--pipeline.stages=[backbone.signal]", "--backbone.signal.model.encoder=own_encoder.Own"]
    return tmp_path / "own_helper.py", line


def test_a_helper_of_the_users_own_encoder_that_changes_trains_it_anew(own, capsys, complaint):
    helper, line = own
    stages = helper.parent / "runs" / "stages" / "backbone.signal"
    assert main(line) == 0
    (first,) = stages.glob("[!.]*")
    helper.write_text(f"# twice as much\n{HELPER}")
    assert main(line) == 0
    assert f"taken from {first}\n" in capsys.readouterr().out

    helper.write_text(HELPER.replace("2", "3"))
    run = helper.parent / "runs" / "tiny"
    assert "own_helper.py changed since backbone.signal was trained" in complaint(["test", str(run)])
    results = (run / "results.json").read_bytes()
    line_of_teacher = complaint([*line, "--pipeline.stages=[teacher]"])
    assert "has not been trained with this configuration" in line_of_teacher
    assert (run / "results.json").read_bytes() == results
    assert main([*line, "--pipeline.code=warn", "--pipeline.name=warned"]) == 0
    assert f"taken from {first}, though own_helper.py changed since it was trained" in capsys.readouterr().out
    assert main([*line, "--pipeline.code=ignore", "--pipeline.name=ignored"]) == 0
    assert f"taken from {first}\n" in capsys.readouterr().out
    assert main(line) == 0
    printed = capsys.readouterr().out
    assert "[1/1] backbone.signal: trained anew, since own_helper.py changed" in printed
    (aside,) = run.parent.glob("tiny.before-*")
    assert f"The earlier run of this name is kept in {aside}" in printed
    assert first.is_dir()
    assert len(list(stages.glob("[!.]*"))) == 2
    assert main(["test", str(run)]) == 0

    helper.write_text(HELPER)
    assert main([*line, "--pipeline.name=back"]) == 0
    assert f"taken from {first}\n" in capsys.readouterr().out


# Revisions

DIGESTS = Path(__file__).with_name("revisions.json")
ROOMS = ("losses", "metrics", "models", "modules")


def revisions():
    """Revision and digest of every class and method that stages are made of."""
    roots = [
        *stage_classes().values(),
        *RIVALS.values(),
        FrameEncoder,
        LogMelEncoder,
        SignalEncoder,
        SpectrogramEncoder,
        VideoEncoder,
    ]
    found = {name: [*of] for name, of in pieces(roots).items() if name.split(".")[1] in ROOMS and "methods" not in name}
    for name, method in METHODS.items():
        teachers = None if method.teachers is None else method.teachers.__name__
        text = json.dumps([dict(method.weights), teachers], sort_keys=True)
        found[f"method {name}"] = [method.revision, digest_of([text])]
    return found


HOW = """
If what is trained has changed, raise its `revision: ClassVar[int]` (of a method: its own; of functions: that
of the classes that use them), so that users of a release get it trained anew. Either way, bring the digests up to date:
    python -m tests.pipeline.test_identity
"""


def test_code_that_has_changed_has_another_revision_or_is_known_to_train_the_same():
    before, now = json.loads(DIGESTS.read_text()), revisions()
    same = {name: of for name, of in now.items() if name in before and of[0] != before[name][0]}
    wrong = sorted(name for name in {*before, *now} if name not in same and before.get(name) != now.get(name))
    assert not wrong, f"{', '.join(wrong[:5])} ({len(wrong)} in all) changed without another revision.\n{HOW}"


if __name__ == "__main__":
    lines = (f"{json.dumps(name)}: {json.dumps(of)}" for name, of in revisions().items())
    DIGESTS.write_text("{\n" + ",\n".join(lines) + "\n}\n")
