"""One output format each: thinking tags, turn ends, and whose template it is."""
