"""Where models come from: Hugging Face, registries of Ollama's kind, addresses and files."""
