"""The past, as the Admin API tells it: for stores of time series, for other programs, and for people."""
