"""One page about networks: collected once, saved as JSON, drawn from that as HTML and Markdown."""
