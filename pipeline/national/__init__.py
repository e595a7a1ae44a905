"""Work over the products of many cities."""
