"""Items: what users own, with tags."""
