"""One command, several stages."""
