"""An embedded Kubernetes-style API server: versioned store, HTTP, watches, CRDs, access rules, garbage collection."""

from simulations.cluster.apiserver.local import LocalApi
from simulations.cluster.apiserver.rbac import User
from simulations.cluster.apiserver.server import ApiServer, ServerOptions

__all__ = ["ApiServer", "LocalApi", "ServerOptions", "User"]
