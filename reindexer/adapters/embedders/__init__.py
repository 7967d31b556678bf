"""The embedders: servers that speak OpenAI's API, and the built-in ones."""
