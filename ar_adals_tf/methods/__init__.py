"""The training methods, their losses, and adversarial training."""
