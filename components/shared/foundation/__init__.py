"""Phase 0: base models of other people, fetched once for all that is made of them."""
