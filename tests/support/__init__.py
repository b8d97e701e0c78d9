"""What tests share: small real things, sites, peers."""
