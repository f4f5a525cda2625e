"""What happens around epochs and batches."""
