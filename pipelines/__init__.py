"""The pipeline that joins the eight phases, the runner that needs no cluster, and the `forge` command."""
