"""The products that are plugged in. Each module maps its product's errors to ours, once."""
