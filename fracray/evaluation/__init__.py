"""What a bundle is worth on rows it never saw: figures with intervals, and the report that shows them."""
