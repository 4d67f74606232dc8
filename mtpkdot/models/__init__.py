"""Networks in plain torch."""

from mtpkdot.models.adapter import Adapter
from mtpkdot.models.attention import AttentionBlock, masked_mean
from mtpkdot.models.backbone import Backbone
from mtpkdot.models.encoder import Encoder, EncoderFactory, FeatureEncoder
from mtpkdot.models.fusion import GatedFusion
from mtpkdot.models.head import Head
from mtpkdot.models.normalise import Standardize
from mtpkdot.models.tnet import TNet

__all__ = [
    "Adapter",
    "AttentionBlock",
    "Backbone",
    "Encoder",
    "EncoderFactory",
    "FeatureEncoder",
    "GatedFusion",
    "Head",
    "Standardize",
    "TNet",
    "masked_mean",
]
