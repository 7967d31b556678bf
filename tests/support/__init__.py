"""What the tests share: real servers, real processes, a provider on loopback, and waiting."""
