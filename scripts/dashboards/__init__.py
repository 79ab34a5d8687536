"""The dashboards of Grafana, from code: `make monitoring` writes them to pipelines/control/monitoring/dashboards."""
