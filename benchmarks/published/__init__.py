"""Published measurements that predictions are fitted to and judged on: one file a set, under the name of its parameters."""
