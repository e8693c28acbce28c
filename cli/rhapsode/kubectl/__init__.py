"""`kubectl rhapsode`: ask, watch and explain InferenceWorkers through the API server, with the user's kubeconfig."""
