"""The sentence that each panel's description ends with: which clock its figures go by."""

ESTIMATED = "Clock: estimated, by the minute of use (about 6 minutes old)."
BILLED = "Clock: billed UTC days (one or two days old)."
BOTH = "Clock: billed UTC days; days without a bill are estimated, by the minute."
USAGE = "Clock: minutes of use (about 6 minutes old)."
POLLED = "Clock: the last poll."
OWN = "Clock: the exporter's own, now."
