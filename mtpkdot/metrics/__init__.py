"""Metrics of the tasks."""

from mtpkdot.metrics.ccc import ConcordanceCorrelation
from mtpkdot.metrics.collections import score_rows, task_metrics

__all__ = ["ConcordanceCorrelation", "score_rows", "task_metrics"]
