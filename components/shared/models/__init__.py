"""The Cognate family of networks, and the loading and saving of any causal language model."""
