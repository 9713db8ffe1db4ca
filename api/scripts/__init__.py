"""Scripts the owner runs inside the API's container."""
