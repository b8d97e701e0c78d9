"""What BATCLIP is compared with: published methods behind the same interface, `adapters.methods.method.Method`."""
