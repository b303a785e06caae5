"""The phone in a box: see `device`."""
