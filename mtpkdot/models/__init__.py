"""Networks in plain torch."""

from mtpkdot.models.adapter import Adapter
from mtpkdot.models.attention import AttentionBlock, masked_mean
from mtpkdot.models.audio import LogMelEncoder
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Encoder, EncoderFactory, FeatureEncoder, LinearEncoder, Steps
from mtpkdot.models.fusions import Concatenation, Fusion, FusionFactory, GatedFusion
from mtpkdot.models.head import Head
from mtpkdot.models.normalise import Standardize
from mtpkdot.models.signal import SignalEncoder, SpectrogramEncoder
from mtpkdot.models.student import Student
from mtpkdot.models.tnets import Hourglass, TNet, TNetFactory
from mtpkdot.models.visual import FrameEncoder, VideoEncoder

__all__ = [
    "Adapter",
    "AttentionBlock",
    "Backbone",
    "Concatenation",
    "Encoder",
    "EncoderFactory",
    "FeatureEncoder",
    "FrameEncoder",
    "Fusion",
    "FusionFactory",
    "GatedFusion",
    "Head",
    "Hourglass",
    "LinearEncoder",
    "LogMelEncoder",
    "SignalEncoder",
    "SpectrogramEncoder",
    "Standardize",
    "Steps",
    "Student",
    "TNet",
    "TNetFactory",
    "VideoEncoder",
    "masked_mean",
]
