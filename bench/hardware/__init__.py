"""Our NVML sampler against a real driver, while a known allocation grows and shrinks: `make hardware`."""
