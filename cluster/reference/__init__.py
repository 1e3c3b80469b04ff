"""References and floors: the orders and matrices that make them."""
