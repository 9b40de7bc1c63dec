"""What the processes share: API models and annotations (`api`), and the typed Kubernetes client (`client`)."""
