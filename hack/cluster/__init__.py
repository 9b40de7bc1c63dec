"""A real Kubernetes cluster on one Linux machine, for the demo and the tests; it imports nothing of Arbiter.

From the bottom: `errors`, `paths`, `progress`, `command`, `probe`; what is got once: `packages`, `binaries`, `images`;
`pki`, `kubeconfig`, `process`; `controlplane` (etcd and API server, on loopback by itself); the parts of a cluster:
`netns`, `cgroups`, `gpus`, `node`; `chart` and `installation` (Arbiter by its chart, with the image of `hack.image`);
`preflight`, `cluster`, `cli`.
"""
