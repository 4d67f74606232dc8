"""Generated data: planted features, and twins of gated data sets."""
