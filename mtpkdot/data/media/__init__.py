"""Raw recordings: decoded once into a store, read from it clip by clip."""
