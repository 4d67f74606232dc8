"""Networks in plain torch."""

from mtpkdot.models.adapter import Adapter
from mtpkdot.models.attention import AttentionBlock, masked_mean
from mtpkdot.models.audio import LogMelEncoder
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Encoder, EncoderFactory, FeatureEncoder, Steps
from mtpkdot.models.fusion import GatedFusion
from mtpkdot.models.head import Head
from mtpkdot.models.normalise import Standardize
from mtpkdot.models.signal import SignalEncoder, SpectrogramEncoder
from mtpkdot.models.tnet import TNet
from mtpkdot.models.visual import FrameEncoder, VideoEncoder

__all__ = [
    "Adapter",
    "AttentionBlock",
    "Backbone",
    "Encoder",
    "EncoderFactory",
    "FeatureEncoder",
    "FrameEncoder",
    "GatedFusion",
    "Head",
    "LogMelEncoder",
    "SignalEncoder",
    "SpectrogramEncoder",
    "Standardize",
    "Steps",
    "TNet",
    "VideoEncoder",
    "masked_mean",
]
