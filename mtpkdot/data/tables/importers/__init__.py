"""Importers of published data sets to the manifest and feature files of FeatureData; one file per data set."""
