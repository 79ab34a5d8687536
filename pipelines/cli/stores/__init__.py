"""Commands on stores: what is encrypted there, and by which key."""
