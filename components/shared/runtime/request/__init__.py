"""What a phase is asked to do: KFP's executor input, or a command line."""
