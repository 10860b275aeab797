"""Networks on this machine: latency, throughput, memory, and how far they are from its ceilings."""
