"""probes: small heads over stored features, fitted in seconds."""
