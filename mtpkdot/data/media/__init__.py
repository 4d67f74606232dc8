"""Raw recordings: decoded once into a store, then read clip by clip."""
