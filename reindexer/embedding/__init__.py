"""From texts to vectors: requests to the provider are packed and rate-limited, and failing inputs are isolated."""
