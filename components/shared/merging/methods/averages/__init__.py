"""Methods that average the weights themselves."""
