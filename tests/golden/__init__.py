"""A record of all that the scripts leave on a tiny data set: proof that a change alters none of it."""
