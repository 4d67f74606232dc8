"""`--help` of the verbs that take the keys of a config: short, and the keys by section on request."""

from collections.abc import Sequence

from mtpkdot.errors import ConfigError, nearest
from mtpkdot.pipeline.stages import BACKBONE, BUILT_IN, STUDENT, TEACHER

# Section -> its description. The parser has the same sections.
SECTIONS = {
    "data": "the data set: BioVid, AffWild2, FeatureData (features of your own) or PlantedData",
    **{name: text for name, (_, text) in BUILT_IN.items()},
    "trainer": "devices, precision, loggers, callbacks: those of Lightning's Trainer",
    "pipeline": "folder and name of the run, which stages are trained, cached features",
    "protocol": "clean, or released: with the faults of the papers' code",
    "seed_everything": "seed of weights, order of samples and dropout",
}

_FIT = """usage: mtpkdot {verb} --config FILE [--config FILE ...] [--KEY VALUE ...]

{text}
A second file overrides keys of the first one, and --KEY VALUE overrides both: --{student}.model.lr 1e-3.

sections of a config:
{sections}

keys that are used most:
  --pipeline.name NAME              folder of the run below runs/
  --{student}.model.method METHOD     auto, none, pkdot, mtpkdot, mtpkdot_plus, or a rival: kd, sp, rkd ...
  --data.labelled_subjects 10       train with the labels of 10 people; the others are unlabelled
  --STAGE.fit.max_epochs 5          passes of a stage: {student}, {teacher}, {backbone}.MODALITY ...
  --trainer.accelerator cpu         where it runs; --trainer.devices 2 for two devices

more:
  mtpkdot fit --help {student}        the keys of a section, with their defaults
  mtpkdot fit --help BioVid         the keys of a class: data set, encoder (FrameEncoder ...) or rival;
                                    for any class that a key names: --data.help=BioVid
  mtpkdot fit --config FILE --print_config   every key with its value"""

_RUN = """usage: mtpkdot {verb} RUN [--KEY VALUE ...]

{text}
RUN is the folder of a run, e.g. runs/demo. Keys set what depends on this machine, e.g. --trainer.accelerator cpu
--trainer.devices 2; `mtpkdot {verb} --help trainer` lists them. If somebody else has made the run, its classes from
outside mtpkdot, torch and lightning are imported only with --trust my_project."""

_TEXTS = {
    "fit": """Train every stage of an experiment, evaluate them and print the table. Stages that are trained already are
reused; after an interruption the same command continues.""",
    "stage NAME": f"""Train one stage, and take earlier stages from earlier runs. NAME is one of {", ".join(BUILT_IN)},
{BACKBONE}.MODALITY for a single modality, or the name of a stage of your own.""",
    "validate": "Evaluate a run again on its validation part.",
    "test": "Evaluate a run again on its test part.",
}


def answered(verb: str, argv: Sequence[str]) -> bool:
    """Print the help that a command line asks for (`--help`, `--help SECTION`); return whether it asks for any.

    Args:
        verb: the verb as in its usage line.
        argv: arguments of the verb.

    Raises:
        ConfigError: no section or class has that name.
    """
    word = next((word for word in argv if word in ("-h", "--help") or word.startswith("--help=")), None)
    if word is None:
        return False
    following = [*argv[list(argv).index(word) + 1 :], "-"][0]
    name = word.partition("=")[2] or ("" if following.startswith("-") else following)
    if name:
        print(_keys(name))
    elif verb in _TEXTS:
        print(usage(verb))
    else:
        return False
    return True


def usage(verb: str) -> str:
    """Return the short help of a verb."""
    if verb in ("validate", "test"):
        return _RUN.format(verb=verb, text=_TEXTS[verb])
    sections = "\n".join(f"  {name:<15} {text}" for name, text in SECTIONS.items())
    names = {"student": STUDENT, "teacher": TEACHER, "backbone": BACKBONE}
    return _FIT.format(verb=verb, text=_TEXTS[verb], sections=sections, **names)


def _keys(name: str) -> str:
    """Return the keys of a section or class; for a stage of one modality, those of all modalities."""
    from mtpkdot.pipeline.keys import class_help, named_classes, section_help

    section = name.partition(".")[0]
    if section in SECTIONS:
        return section_help(section)
    classes = named_classes()
    if name not in classes:
        raise ConfigError(
            f"there is no section or class {name!r}",
            f"{nearest(name, [*SECTIONS, *classes])}Choose from {', '.join(SECTIONS)}, or name a class as --help does.",
        )
    return class_help(classes[name])
