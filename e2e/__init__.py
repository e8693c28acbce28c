"""End-to-end scenarios on a real kind cluster. `make e2e` makes the cluster, the images and runs them."""
