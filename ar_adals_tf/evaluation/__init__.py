"""What is measured of a trained model, and where the results go."""
