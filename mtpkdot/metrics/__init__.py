"""Metrics of each task."""

from mtpkdot.metrics.collections import score_rows, task_metrics
from mtpkdot.metrics.values import ConcordanceCorrelation

__all__ = ["ConcordanceCorrelation", "score_rows", "task_metrics"]
