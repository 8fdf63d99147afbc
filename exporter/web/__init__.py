"""HTTP: /metrics, health and the landing page; it receives what it serves."""
