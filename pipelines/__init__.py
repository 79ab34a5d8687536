"""The pipeline that joins the phases, the runner that needs no cluster, and the `forge` command."""
