"""From a Hugging Face folder to what a GGUF file of the same model says and holds."""
