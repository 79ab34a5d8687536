"""Where the companions are named."""

from __future__ import annotations

VARIABLE = "FORGE_MCP_CONFIG"
"""The file that names the servers."""
