"""``d3gan compare``: trains the runs that are missing, then compares all of them."""
