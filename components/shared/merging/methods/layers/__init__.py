"""Methods that rearrange whole layers and leave the tensors as they are."""
