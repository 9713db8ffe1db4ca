"""What reads promise: paging, plans, counts, and the replica set they may come from."""
