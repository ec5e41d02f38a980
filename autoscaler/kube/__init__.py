"""The controller's only Kubernetes client code."""
