"""Who makes vectors: servers that speak OpenAI's API, and what is built in."""
