"""Tables and feature files: own data without code, and importers of published ones."""
