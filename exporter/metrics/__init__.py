"""What /metrics shows: the catalogue, the organisation's series, and the metrics about ourselves."""
