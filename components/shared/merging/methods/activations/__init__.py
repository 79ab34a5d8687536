"""Methods that look at data: Fisher information, Gram matrices of what goes into a layer."""
