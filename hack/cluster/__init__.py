"""A real Kubernetes cluster on one Linux machine, for the demo and the tests; it imports nothing of Arbiter.

From the bottom: `errors`, `paths`, `progress`; `packages`, `binaries`, `images` (what is fetched or built once);
`pki`, `kubeconfig`, `process`, `waiting`; `controlplane` (etcd and API server, also on its own on loopback);
`netns`, `node`, `arbiter` (the parts of a cluster); `cluster` puts them together, `cli` is the command line.
"""
