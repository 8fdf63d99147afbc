"""The past as rows: usage and cost for other programs."""
