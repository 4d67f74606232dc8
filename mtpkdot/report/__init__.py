"""Reports on runs and studies: statistics, tables, figures."""
