"""What is watched: metrics for Prometheus, rules and routes of alerts, dashboards, logs as JSON, traces.

    snapshot    one look at everything, from which metrics and alerts both speak
    history     what the database knows of all finished tasks
    live        runs that go on, the queue, leases
    machine     memory, processor, disk and GPUs of this machine
    reach       whether database, store, Redis and MLflow answer
    exposition  the page that Prometheus reads
    conditions  the alerts that need no Prometheus
    scaling     what `scale_resources` does
    webhook     who may post to it
    requests    measures every request
    logs, traces

rules.yaml, alertmanager.yaml and dashboards/*.json are for Prometheus, Alertmanager and Grafana as they are.
"""
