"""Losses: pure functions of tensors, each in float32 outside autocast, each naming its paper."""
