"""What runs and studies show: statistics, tables, figures."""
