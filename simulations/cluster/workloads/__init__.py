"""Stand-ins for the Deployment, ReplicaSet, scheduler, kubelet and endpoints controllers."""
