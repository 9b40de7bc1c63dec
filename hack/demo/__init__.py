"""`make demo`: two containers share one GPU on a real local cluster, told step by step.

Every figure is read where it claims to be: quality in the container's own file, times from the containers' journals,
the rest from the API server.
"""
