"""Models of other people: how one is named, fetched, read and checked before a phase works on it."""
