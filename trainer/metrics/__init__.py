"""What training reports."""
