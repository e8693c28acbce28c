"""The operator: an InferenceWorker becomes pods, and its status tells the truth."""
