"""One lazy, memory-mapped view of GGUF files and safetensors folders."""
