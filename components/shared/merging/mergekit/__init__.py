"""mergekit's configurations (Goddard et al., arXiv 2403.13257, §3.1), read as recipes."""
