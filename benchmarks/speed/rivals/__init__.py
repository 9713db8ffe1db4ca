"""What the product is compared with: the plainest service that does the same, on the same servers and libraries."""
