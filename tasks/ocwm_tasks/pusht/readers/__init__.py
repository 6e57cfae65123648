"""Readers of Push-T data sets: whatever lies in a folder becomes episodes."""
