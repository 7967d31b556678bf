"""From texts to vectors: requests to the provider, packed, limited, and searched for what fails them."""
