"""The dashboards as code: ``boards`` say what is asked, ``builder`` makes Grafana's JSON of it."""
