"""One page about networks: its results are collected once, saved as JSON, and drawn from that as HTML and Markdown."""
