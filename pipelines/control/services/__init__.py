"""What the control plane does; `api/` and `mcp/` ask for it."""
