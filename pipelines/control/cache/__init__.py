"""What costs much to read is kept: in memory, in Redis, on disk, in this order."""
