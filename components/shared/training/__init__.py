"""What every training loop stands on: the device, the training step."""
