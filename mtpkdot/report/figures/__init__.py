"""Figures of a report, as SVG: readable in print, and without telling colours apart."""
