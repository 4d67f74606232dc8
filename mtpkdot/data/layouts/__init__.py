"""How known data sets lie on disk: one reader per layout that finds recordings and decodes none."""
