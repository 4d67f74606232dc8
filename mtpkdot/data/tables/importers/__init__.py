"""Published data sets, made into the manifest and feature files that FeatureData reads; one file per data set."""
