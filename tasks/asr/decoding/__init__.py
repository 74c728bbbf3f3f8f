"""From what the network gives to texts: a way of decoding is a class."""

from tasks.asr.decoding.attention import AttentionBeam, AttentionGreedy, JointBeam
from tasks.asr.decoding.base import Decoding, Hypothesis
from tasks.asr.decoding.ctc import CTCBeam, CTCGreedy

__all__ = ["AttentionBeam", "AttentionGreedy", "CTCBeam", "CTCGreedy", "Decoding", "Hypothesis", "JointBeam"]
