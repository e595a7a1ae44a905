"""The local services of an operator: server, worker, work pool, limits, deployments, profile."""
