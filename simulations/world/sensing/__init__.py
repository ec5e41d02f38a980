"""What a policy sees of its replicas: read at its own cadence, by Prometheus, just when it asks, or wrongly."""
