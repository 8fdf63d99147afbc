"""The past as samples: what the exporter would have shown, for the store that has what it shows now."""
