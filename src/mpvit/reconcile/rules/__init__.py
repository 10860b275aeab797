"""What each tool counts, one file a tool: a ``RULE`` on a trace. Facts from each tool's behaviour at the version named."""
