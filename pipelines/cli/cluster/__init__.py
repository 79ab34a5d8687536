"""Commands for a Kubeflow cluster: submit, retry, clean."""
