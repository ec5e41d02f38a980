"""An embedded Kubernetes-style API server: versioned store, HTTP, watches, CRDs, access rules, garbage collection."""
