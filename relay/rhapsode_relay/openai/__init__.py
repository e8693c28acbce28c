"""OpenAI's endpoints, for the clients that people already have."""
