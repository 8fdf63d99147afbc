"""The past: what the exporter would have shown, and how other programs take it in."""
