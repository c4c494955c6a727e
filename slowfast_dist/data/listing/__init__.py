"""Which videos there are: folders and lists to rows, and the rows to two sides."""
