"""The embedded cluster: API server, workload controllers, kubelet, KServe stand-in and vLLM emulators."""
