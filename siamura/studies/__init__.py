"""What is on disk, as a table with one row a view."""
