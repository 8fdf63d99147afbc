"""The past as figures: usage and cost for people."""
