"""The terminal's side of Kubeflow Pipelines: submit, watch, read logs, cancel, retry; and what a run has in its store."""
