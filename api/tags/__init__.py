"""Tags: read only, counted from the items that carry them."""
