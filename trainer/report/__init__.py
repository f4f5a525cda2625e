"""Pictures and reports; plain data in, bytes out."""
