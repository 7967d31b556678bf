"""The adapters of exchangeable products. Each maps its product's errors to ours, once."""
