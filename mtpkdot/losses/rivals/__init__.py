"""Distillation losses from the literature with a common interface, see `Rival`."""

from mtpkdot.losses.rivals.attention import AttentionTransfer
from mtpkdot.losses.rivals.base import Rival, RivalFactory, Seen
from mtpkdot.losses.rivals.contrastive import ContrastiveDistillation
from mtpkdot.losses.rivals.correlation import CorrelationCongruence
from mtpkdot.losses.rivals.decoupled import DecoupledDistillation
from mtpkdot.losses.rivals.generalized import GeneralizedDistillation
from mtpkdot.losses.rivals.hints import Hints
from mtpkdot.losses.rivals.logits import LogitDistillation
from mtpkdot.losses.rivals.m2pkd import CCCWeighted
from mtpkdot.losses.rivals.neuron_selectivity import NeuronSelectivity
from mtpkdot.losses.rivals.patient import PatientDistillation
from mtpkdot.losses.rivals.relational import RelationalDistillation
from mtpkdot.losses.rivals.similarity_preserving import SimilarityPreserving
from mtpkdot.losses.rivals.variational import VariationalDistillation

RIVALS: dict[str, type[Rival]] = {
    "kd": LogitDistillation,
    "fitnets": Hints,
    "pkd": PatientDistillation,
    "at": AttentionTransfer,
    "sp": SimilarityPreserving,
    "rkd": RelationalDistillation,
    "cc": CorrelationCongruence,
    "nst": NeuronSelectivity,
    "vid": VariationalDistillation,
    "crd": ContrastiveDistillation,
    "dkd": DecoupledDistillation,
    "lupi": GeneralizedDistillation,
    "m2pkd": CCCWeighted,
}

__all__ = [
    "RIVALS",
    "AttentionTransfer",
    "CCCWeighted",
    "ContrastiveDistillation",
    "CorrelationCongruence",
    "DecoupledDistillation",
    "GeneralizedDistillation",
    "Hints",
    "LogitDistillation",
    "NeuronSelectivity",
    "PatientDistillation",
    "RelationalDistillation",
    "Rival",
    "RivalFactory",
    "Seen",
    "SimilarityPreserving",
    "VariationalDistillation",
]
