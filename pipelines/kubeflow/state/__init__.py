"""A Kubeflow run as it stands: from KFP's API, the Kubernetes API and the object store."""
