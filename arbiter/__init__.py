"""The core of Arbiter: pure decisions on one machine, without Kubernetes. Imports the standard library only."""
