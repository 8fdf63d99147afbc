"""Exporters of the same series, made with client libraries."""
