"""What a run reports: accumulated on the device batch by batch, read once a split."""
