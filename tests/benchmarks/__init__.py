"""Measurements, run by ``make bench``: they print figures and never fail."""
