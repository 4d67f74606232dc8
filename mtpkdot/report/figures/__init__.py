"""Figures of a report as SVG, readable in print and without distinguishing colours."""
