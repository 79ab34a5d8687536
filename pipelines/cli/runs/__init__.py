"""Commands about runs: starting, following, looking at and removing them."""
