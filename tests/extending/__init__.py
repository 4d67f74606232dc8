"""Additions of every kind from outside, without touching the package."""
