"""Events: what happened to an aggregate, in the past tense, with its full state afterwards."""
