"""One module for each dashboard; ``BOARD`` is its JSON."""
